"""Be an engine without a model: answers come from a function of the canvas.

The in-memory twin of `onnx_engine`, for tests and dry runs of everything behind the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detection.canvases import CANVASES
from detection.detections import Detections, Image
from detection.errors import EngineFailed
from detection.letterbox import Letterbox
from detection.model_file import ModelFile
from detection.onnx_engine import Outputs
from detection.session import DEFAULT_OPTIONS, Detector, DetectorOptions
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import InputSpec

Answer = Callable[[Image], Detections]
"""Say what is found on a canvas (1, height, width, 3), in canvas pixels."""


class MemoryEngine:
    """Answer runs from a function, and count them."""

    provider = "memory"

    def __init__(self, canvases: Sequence[Image], answer: Answer) -> None:
        self.runs = 0
        self._canvases = tuple(canvases)
        self._answer = answer
        self._closed = False

    def run(self, canvas: int = 0) -> Outputs:
        """Return the answer as end-to-end rows."""
        if self._closed:
            raise EngineFailed(expected="an open engine", got="a closed one", where="memory")
        self.runs += 1
        found = self._answer(self._canvases[canvas])
        rows = np.concatenate(
            (found.xyxy, found.confidence[:, None], found.class_id[:, None].astype(np.float32)), axis=1
        )
        return (rows[None].astype(np.float32),), None

    def close(self) -> None:
        """Refuse further runs."""
        self._closed = True


def memory_detector(
    answer: Answer,
    class_names: Sequence[str],
    *,
    size: tuple[int, int] = (64, 64),
    name: str = "memory",
    options: DetectorOptions = DEFAULT_OPTIONS,
) -> Detector:
    """Build a detector that needs no model file; its id is the hash of `name`."""
    spec = InputSpec(width=size[0], height=size[1], head="end2end", features_name=None)
    letterboxes = [Letterbox(*size) for _ in range(CANVASES)]
    model = ModelFile(sha256_of(name.encode()), spec, tuple(class_names), "end2end", where=name)
    engine = MemoryEngine([letterbox.canvas for letterbox in letterboxes], answer)
    return Detector(engine, model, letterboxes, options)
