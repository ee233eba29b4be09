"""Run an onnxruntime session on one canvas, bound once and for all.

Input and outputs keep their memory from frame to frame: the
engine reads the letterbox's canvas itself and writes into arrays made at the start.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from detection.detections import Floats, Image
from detection.errors import EngineFailed
from detection.model_file import ModelFile
from detection.ort_session import ENGINE_ERRORS, first_line
from detection.providers import CPU


class Engine(Protocol):
    """Run a model on the canvas it was bound to; `MemoryEngine` is the twin without a model."""

    provider: str
    """What computes: the name of the first execution provider in use."""

    def run(self) -> tuple[Floats, Floats | None]:
        """Return raw detections and pooled features, in memory that the next run overwrites.

        Raises:
            EngineFailed: the engine gave up on this frame.
        """

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""


class OnnxEngine:
    """Run an onnxruntime session on one canvas with bound input and outputs.

    Args:
        session: as `open_session` returned it.
        model: what the file says of itself, checked against the graph.
        canvas: (1, height, width, 3) uint8; it must live as long as the engine.
    """

    def __init__(self, session: Any, model: ModelFile, canvas: Image) -> None:
        self.provider: str = session.get_providers()[0]
        self._session: Any | None = session
        self._model = model
        self._canvas = canvas
        self._binding = session.io_binding()
        self._on_device: Any | None = None
        self._names = tuple(
            name for name in (model.spec.detections_name, model.spec.features_name) if name is not None
        )
        self._outputs: dict[str, Floats] = {}
        self._bind_input()
        self._bind_outputs()

    def run(self) -> tuple[Floats, Floats | None]:
        """Run the model on what the canvas holds now."""
        if self._session is None:
            raise EngineFailed(expected="an open engine", got="a closed one", where=self._model.where)
        try:
            if self._on_device is not None:
                self._on_device.update_inplace(self._canvas)
            self._session.run_with_iobinding(self._binding)
        except ENGINE_ERRORS as error:
            raise EngineFailed(
                expected="an answer to one frame", got=first_line(error), where=self._model.where
            ) from error
        outputs = self._outputs or self._fetch()
        features = self._model.spec.features_name
        return outputs[self._model.spec.detections_name], None if features is None else outputs[features]

    def close(self) -> None:
        """Let go of session and buffers."""
        self._session = None
        self._binding = None
        self._on_device = None
        self._outputs = {}

    def _bind_input(self) -> None:
        name, shape = self._model.spec.input_name, list(self._canvas.shape)
        if self.provider == CPU:
            self._binding.bind_input(name, "cpu", 0, np.uint8, shape, self._canvas.ctypes.data)
            return
        # A host array bound to a GPU session is copied at binding time only, so a device buffer is
        # kept and written to before each run.
        self._on_device = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, "cuda", 0)
        self._binding.bind_ortvalue_input(name, self._on_device)

    def _bind_outputs(self) -> None:
        static = all(self._model.output_shapes[name] is not None for name in self._names)
        for name in self._names:
            shape = self._model.output_shapes[name]
            if not static or shape is None:
                self._binding.bind_output(name, "cpu")
                continue
            array = np.zeros(shape, np.float32)
            self._outputs[name] = array
            self._binding.bind_output(name, "cpu", 0, np.float32, list(shape), array.ctypes.data)

    def _fetch(self) -> dict[str, Floats]:
        """Copy outputs whose size only this run knew."""
        return dict(zip(self._names, self._binding.copy_outputs_to_cpu(), strict=True))
