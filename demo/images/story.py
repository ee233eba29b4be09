"""Play the demo on real images: let new ones pass, label what came back, wait for the verdict.

The labels of the whole batch arrive together, after the last image passed, as from a labeller who works
through a delivery. The order of the steps is in the folder, so a demo that was killed goes on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from demo.errors import StationStuck
from demo.images.feed import Feeder
from demo.images.layout import ImageFolder
from demo.images.settings import ImagesSettings
from demo.loop.glance import Glance, look, uploaded
from demo.loop.progress import RunProgress
from demo.loop.show import Show
from demo.loop.state import DemoState, StateFile
from flows.context import Context
from flows.errors import DatabaseAway, StoreError
from flows.files import write_file
from flows.trigger import MAX_FAILURES

TICK = 0.5  # seconds
LONGEST = 3600.0  # seconds
_CLOSED = ("finished", "refused", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class ImagesStage:
    """Hold what the story is played with."""

    ctx: Context
    settings: ImagesSettings
    data: ImageFolder
    state_file: StateFile
    show: Show


class ImagesStory:
    """Play the demo from where it is until the run is closed."""

    def __init__(self, stage: ImagesStage, state: DemoState, feeder: Feeder) -> None:
        """Take the stage, the folder's state, and what lets images pass."""
        self._stage = stage
        self.state = state
        self._feeder = feeder
        self._progress = RunProgress(stage.ctx, stage.settings.task_id)
        self._told: set[str] = set()

    def play(self) -> DemoState:
        """Go on until the gate has judged and a promoted model serves on every box.

        Raises:
            StationStuck: the boxes sent too few images to train on, or a verdict did not come in time.
        """
        deadline = time.monotonic() + LONGEST
        while not self._calm_tick():
            if time.monotonic() > deadline:
                raise StationStuck(
                    expected=f"a verdict within {LONGEST:.0f} s",
                    got=f"run {self._look().run}",
                    where=str(self._stage.ctx.folder),
                    now="Read logs/ in that folder; the same command goes on in it.",
                )
            time.sleep(TICK)
        return self.state

    def _calm_tick(self) -> bool:
        try:
            return self.tick()
        except (StoreError, DatabaseAway) as error:
            # A service that was killed comes back; what it should have answered is asked again.
            self._once(str(error), f"waiting: {error}")
            return False

    def tick(self) -> bool:
        """Do what is due; return whether the demo is over."""
        glance = self._look()
        # (1) images pass at the line's pace
        left = self._feeder.feed(max(1, round(self._stage.settings.pace * TICK)))
        self.state = self._stage.state_file.mark(self.state, "first_frame_at")
        # (2) labels, once everything passed and arrived
        if left == 0 and self.state.triggered_at is None and self._is_drained(glance):
            self._label()
        self._stage.show.status(glance, self._progress.look(glance))
        self._tell_of(glance)
        # (3) the end: a verdict, and the boxes serving what it let pass
        return self._is_over(glance)

    def _look(self) -> Glance:
        return look(self._stage.ctx, self._stage.settings.task_id)

    def _is_drained(self, glance: Glance) -> bool:
        for device in self._stage.settings.devices:
            report = glance.devices.get(device)
            if report is None or report.outbox_waiting:
                return False
            if report.frames_inspected + report.frames_unreadable < self._feeder.passed(device):
                return False
        return True

    def _label(self) -> None:
        stage = self._stage
        labels = {row.stem: row.label for row in stage.data.split("new_pool")}
        arrived = uploaded(stage.ctx, stage.settings.task_id)
        least = stage.ctx.settings.task(stage.settings.task_id).trigger_threshold
        if len(arrived) < least:
            raise StationStuck(
                expected=f"at least {least} images the boxes found hard",
                got=str(len(arrived)),
                where="mining",
                now="The model is sure of nearly everything here: nothing to learn from this folder.",
            )
        folder = stage.ctx.path(stage.ctx.settings.labels.folder) / stage.settings.task_id
        names = "".join(f"{name}\n" for name in stage.data.class_names)
        write_file(folder / "classes.txt", names.encode())
        for sample in arrived:
            _copy_label(labels[sample.part_id], folder / f"{sample.sample_id}.txt")
        self.state = stage.state_file.mark(self.state, "triggered_at")
        stage.show.note(f"labels: {len(arrived)} images that the boxes sent, labelled from labels/")

    def _is_over(self, glance: Glance) -> bool:
        stage = self._stage
        if glance.run.state == "failed" and glance.run.attempts < MAX_FAILURES:
            # The trigger asks for a failed run again by itself.
            told = f"retrain failed, it is tried again: {glance.run.reason[:200]}"
            self._once(f"failed {glance.run.attempts}", told)
            return False
        if glance.run.state == "failed":
            raise StationStuck(
                expected="a trained candidate", got=glance.run.reason, where=glance.run.run_id,
                now="Read logs/ in the demo's folder.",
            )  # fmt: skip
        if glance.run.state not in _CLOSED:
            return False
        if glance.run.state in ("refused", "cancelled"):
            self.state = stage.state_file.mark(self.state, "served_at")
            return True
        version = glance.champion_version
        if not glance.all_serve(stage.settings.devices, version):
            return False
        self.state = stage.state_file.mark(self.state, "served_at", new_version=version)
        return True

    def _tell_of(self, glance: Glance) -> None:
        run, candidate = glance.run, glance.candidate
        if run.run_id:
            self._once(run.run_id, f"retrain: {run.run_id} on snapshot {run.snapshot_id[:12]}")
        if candidate and candidate.state != "collected":
            self._once(candidate.state, f"gate: {candidate.candidate_id} {candidate.state}")
        for device, report in sorted(glance.devices.items()):
            if report.state == "serving" and report.release_version:
                told = f"{device}: serves release {report.release_version}"
                self._once(told, told)

    def _once(self, key: str, text: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self._stage.show.note(text)


def _copy_label(label: Path, target: Path) -> None:
    if not target.exists():
        write_file(target, label.read_bytes())
