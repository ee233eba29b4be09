"""Hand a proven model from the updater to the loop, between two frames and by one reference.

The updater `offer`s a loaded and warmed-up model; the loop `take`s it before its next frame and goes on.
The old model stays loaded until the updater `confirm`s the new one, so that a model which fails on a real
frame is replaced at once (`fail`) without a file being read. Models are closed by the updater's calls,
never by the loop, which may not wait.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detection.detections import Detections, Floats
    from detection.novelty import FeatureReference
    from detection.session import Prepared
    from fleet_contracts.releases import SwapReport
    from fleet_contracts.samples import DecisionRules


class Inferred(Protocol):
    """Be what a model says of one frame; boxes in the frame's pixels."""

    @property
    def detections(self) -> Detections:
        """Return the boxes."""

    @property
    def features(self) -> Floats | None:
        """Return the pooled feature vector, None if the model gives none."""

    @property
    def preprocess_ms(self) -> float:
        """Return what preparing took."""

    @property
    def engine_ms(self) -> float:
        """Return the model's own time."""

    @property
    def postprocess_ms(self) -> float:
        """Return what decoding took."""


class FrameModel(Protocol):
    """Be a loaded model; `detection.session.Detector` is the real one."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the class ids, in order."""

    @property
    def feature_reference(self) -> FeatureReference | None:
        """Return what training knew, None if the model does not say."""

    def infer(self, frame_bgr: NDArray[Any]) -> Inferred:
        """Find objects in one frame."""

    def prepare(self, frame_bgr: NDArray[Any]) -> Prepared:
        """Do what needs no engine; may be called while another thread is within `detect`."""

    def detect(self, prepared: Prepared) -> Inferred:
        """Find objects in a prepared frame; one that another model prepared is prepared again."""

    def close(self) -> None:
        """Give back the engine's memory."""


@dataclass(frozen=True, slots=True)
class ServingModel:
    """Hold a model with what the loop must know of its release."""

    detector: FrameModel
    release_version: int
    decision_rules: DecisionRules
    model_id: str


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """Say that a model failed on a real frame and was taken out of service."""

    release_version: int
    model_id: str
    problem: str


class ModelSlot:
    """Hold the serving model, the one offered, and the one to fall back on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offered = threading.Event()
        self._current: ServingModel | None = None
        self._pending: ServingModel | None = None
        self._previous: ServingModel | None = None
        self._retired: list[ServingModel] = []
        self._good_frames = 0
        self._failure: ModelFailure | None = None
        self._swap: SwapReport | None = None

    def current(self) -> ServingModel | None:
        """Return the model that serves now."""
        return self._current

    def good_frames(self) -> int:
        """Return how many frames the serving model has inspected without an error."""
        return self._good_frames

    def failure(self) -> ModelFailure | None:
        """Return the last failure on a real frame; one without a fall-back never hides one that had it."""
        return self._failure

    def swap_report(self) -> SwapReport | None:
        """Return how the last swap went."""
        return self._swap

    # The updater's side.

    def offer(self, model: ServingModel) -> None:
        """Put a loaded, warmed-up model where the loop takes it before its next frame."""
        with self._lock:
            unused, self._pending = self._pending, model
            retired = self._take_retired()
        self._offered.set()
        _close([unused, *retired])

    def confirm(self) -> None:
        """Let go of the model to fall back on: the serving one has proven itself."""
        with self._lock:
            previous, self._previous = self._previous, None
            retired = self._take_retired()
        _close([previous, *retired])

    def close(self) -> None:
        """Close every model; call after the loop has ended."""
        with self._lock:
            models = [self._current, self._pending, self._previous, *self._take_retired()]
            self._current = self._pending = self._previous = None
        _close(models)

    # The loop's side.

    def wait_for_offer(self, seconds: float) -> bool:
        """Wait until a model is offered; only for a loop that has none yet."""
        return self._offered.wait(seconds)

    def take(self) -> ServingModel | None:
        """Put the offered model into service and return it, or None when there is none."""
        if not self._offered.is_set():
            return None
        with self._lock:
            self._offered.clear()
            model, self._pending = self._pending, None
            if model is None:
                return None
            if self._previous is not None:
                self._retired.append(self._previous)
            self._previous, self._current = self._current, model
            self._good_frames = 0
        return model

    def note_good_frame(self) -> None:
        """Count a frame that the serving model inspected without an error."""
        self._good_frames += 1

    def note_swap(self, report: SwapReport) -> None:
        """Remember how the swap went."""
        self._swap = report

    def fail(self, problem: str) -> ServingModel | None:
        """Take the serving model out of service after an error; return the one that serves again.

        Without a model to fall back on the failing one stays, since it may manage the next frame.
        """
        with self._lock:
            failed, previous = self._current, self._previous
            if failed is None:
                return None
            known = self._failure
            if previous is not None or known is None or known.release_version == failed.release_version:
                # The updater may not have looked yet at the failure that brought this model back.
                self._failure = ModelFailure(failed.release_version, failed.model_id, problem)
            if previous is not None:
                self._retired.append(failed)
                self._current, self._previous = previous, None
                self._good_frames = 0
            return self._current

    def _take_retired(self) -> list[ServingModel]:
        retired, self._retired = self._retired, []
        return retired


def _close(models: list[ServingModel | None]) -> None:
    to_close = [model for model in models if model is not None]
    for model in to_close:
        model.detector.close()
    if to_close:
        _give_back_memory()


def _give_back_memory() -> None:
    """Return freed memory to the system; else each swap leaves holes in which the next model does not fit."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any | None:
    """Return glibc's `malloc_trim`; other libraries (musl, macOS) have none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
