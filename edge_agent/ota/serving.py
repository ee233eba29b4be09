"""Move the box from one installed release to another, and back if the new one does not prove itself.

A release is on trial from the moment it is offered until it has inspected some frames well (or some time
has passed without a failure). During that time the old model stays loaded in the `ModelSlot` and its folder
stays on the disk; a release that takes the agent down is left behind after a few starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from detection.errors import DetectionError
from edge_agent.config import ReleasesConfig
from edge_agent.model_slot import FrameModel, ModelFailure, ModelSlot, ServingModel
from edge_agent.ota.errors import OtaError, ReleaseRefused, SelfTestBroken
from edge_agent.ota.slots import MAX_STARTS, Pointers, Slots
from fleet_contracts.releases import Release

Refuse = Callable[[int, OtaError], None]


class LoadModel(Protocol):
    """Load a model file that a child process has survived already."""

    def __call__(self, path: Path) -> FrameModel:
        """Return the loaded, warmed-up model; raises `DetectionError`."""
        ...


@dataclass(frozen=True, slots=True)
class TrialFailure:
    """Say that the release on trial failed on a real frame."""

    version: int
    error: OtaError


class Serving:
    """Hold what serves and what is on trial; used by the updater's thread alone.

    Args:
        slots: releases on the disk.
        slot: where the loop takes models from.
        load: makes a model of a file.
        config: how a new model proves itself.
    """

    def __init__(self, slots: Slots, slot: ModelSlot, load: LoadModel, config: ReleasesConfig) -> None:
        self._slots = slots
        self._slot = slot
        self._load = load
        self._config = config
        self._release: Release | None = None
        self._trial = False
        self._taken_at: float | None = None
        self._old_failure = slot.failure()

    def release(self) -> Release | None:
        """Return the release that serves or is on trial."""
        return self._release

    def version(self) -> int:
        """Return its version, 0 when there is none."""
        return self._release.version if self._release else 0

    def on_trial(self) -> bool:
        """Say whether the release has yet to prove itself."""
        return self._trial

    def start(self, refuse: Refuse) -> list[str]:
        """Offer the installed release, going back past releases that cannot serve; return what was wrong.

        Steps: (1) count this start before the release is touched, since it may end the process; a disk that
        cannot be written keeps nothing from serving; (2) leave a release behind that was started too often
        without proving itself; (3) verify and load it. A release that has proven itself and does not load now
        stays where it is: the engine is at fault, and that may pass.
        """
        problems: list[str] = []
        pointers = self._count_start(problems)  # (1)
        while pointers.current:
            try:
                if not pointers.confirmed and pointers.starts > MAX_STARTS:  # (2)
                    error = ReleaseRefused(expected=f"it to prove itself within {MAX_STARTS} starts",
                                           got=f"start {pointers.starts}",
                                           where=f"release {pointers.current}")
                    _noting(partial(refuse, pointers.current, error), problems)
                    raise error
                release = self._slots.load(pointers.current)  # (3)
                self._offer(release, self._model_of(release), on_trial=not pointers.confirmed)
                break
            except OtaError as error:
                problems.append(str(error))
                if isinstance(error, SelfTestBroken) and pointers.confirmed:
                    break
                _noting(self._slots.go_back, problems)
                pointers = Pointers(pointers.previous)
        return problems

    def end(self) -> None:
        """Take back the count of this start: being stopped in order says nothing against a release."""
        if self._trial and self._failure_on_trial() is None:
            self._slots.uncount_start()

    def swap(self, release: Release) -> None:
        """Put an installed, self-tested release on trial.

        Steps: (1) load and warm it up while the old one serves; (2) point to it, flushed, so that a restart
        starts with it and counts; (3) offer it to the loop, which takes it between two frames.

        Raises:
            SelfTestBroken: it does not load in this process, though it did in the child.
        """
        model = self._model_of(release)  # (1)
        self._slots.switch(release.version)  # (2)
        self._offer(release, model, on_trial=True)  # (3)

    def look(self) -> TrialFailure | None:
        """Confirm the release on trial when it has proven itself; return its failure when it has failed."""
        if not self._trial or self._release is None:
            return None
        failure = self._failure_on_trial()
        if failure is not None:
            # Told again at every look until `take_back`, since what the caller writes then may fail.
            error = ReleaseRefused(expected="every frame inspected", got=failure.problem,
                                   where=f"release {failure.release_version} on the line",
                                   now="The previous model serves again.")
            return TrialFailure(failure.release_version, error)
        if self._is_proven():
            self._trial = False
            self._slots.confirm()
            self._slot.confirm()
        return None

    def take_back(self) -> None:
        """Serve the previous release again; the loop has mostly done so already, from memory.

        Raises:
            SlotDamaged, SelfTestBroken: it cannot serve any more; the channel gives it anew.
        """
        version = self._slots.go_back()
        self._trial = False
        self._release = None
        if not version:
            return
        release = self._slots.load(version)
        self._release = release
        serving = self._slot.current()
        if serving is None or serving.model_id != release.model_id:
            self._offer(release, self._model_of(release), on_trial=False)

    def _count_start(self, problems: list[str]) -> Pointers:
        _noting(self._slots.count_start, problems)
        return self._slots.pointers()

    def _failure_on_trial(self) -> ModelFailure | None:
        failure, release = self._slot.failure(), self._release
        if failure is None or failure is self._old_failure or release is None:
            return None
        return failure if failure.release_version == release.version else None

    def _is_proven(self) -> bool:
        serving, release = self._slot.current(), self._release
        if serving is None or release is None or serving.release_version != release.version:
            return False
        if self._taken_at is None:
            self._taken_at = time.monotonic()
        waited = time.monotonic() - self._taken_at
        return self._slot.good_frames() >= self._config.confirm_frames or waited >= self._config.confirm_s

    def _model_of(self, release: Release) -> FrameModel:
        path = self._slots.path(release.version) / release.model.path
        try:
            return self._load(path)
        except DetectionError as error:
            raise SelfTestBroken(expected="a model that loads", got=str(error), where=str(path)) from error

    def _offer(self, release: Release, model: FrameModel, *, on_trial: bool) -> None:
        self._release = release
        self._trial = on_trial
        self._taken_at = None
        self._old_failure = self._slot.failure()
        self._slot.offer(ServingModel(model, release.version, release.decision_rules, release.model_id))


def _noting(write: Callable[[], object], problems: list[str]) -> None:
    """Write what the next start should know; a disk that cannot be written keeps nothing from serving."""
    try:
        write()
    except OSError as error:
        problems.append(f"{type(error).__name__}: {error}")
