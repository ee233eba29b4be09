"""Run an onnxruntime session on a few canvases, bound once and for all.

Input and outputs keep their memory from frame to frame: the
engine reads the letterboxes' canvases themselves and writes into arrays made at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from detection.detections import Floats, Image
from detection.errors import EngineFailed
from detection.model_file import ModelFile
from detection.ort_session import ENGINE_ERRORS, first_line
from detection.providers import CPU

Outputs = tuple[tuple[Floats, ...], Floats | None]
"""What detections are read from, in the order of `InputSpec.detection_outputs`, and the pooled features."""


class Engine(Protocol):
    """Run a model on a canvas it was bound to; `MemoryEngine` is the twin without a model."""

    provider: str
    """What computes: the name of the first execution provider in use."""

    def run(self, canvas: int = 0) -> Outputs:
        """Return what the model says of the canvas of that number, in memory that the next run overwrites.

        Raises:
            EngineFailed: the engine gave up on this frame.
        """

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""


class OnnxEngine:
    """Run an onnxruntime session on a few canvases with bound inputs and outputs; for one thread at a time.

    Args:
        session: as `open_session` returned it.
        model: what the file says of itself, checked against the graph.
        canvases: each (1, height, width, 3) uint8; they must live as long as the engine.
    """

    def __init__(self, session: Any, model: ModelFile, canvases: Sequence[Image]) -> None:
        self.provider: str = session.get_providers()[0]
        self._session: Any | None = session
        self._where = model.where
        self._canvases = tuple(canvases)
        self._on_device: Any | None = None
        self._has_features = model.spec.features_name is not None
        features = (model.spec.features_name,) if model.spec.features_name is not None else ()
        self._names = (*model.spec.detection_outputs, *features)
        shapes = [model.output_shapes[name] for name in self._names]
        self._arrays = tuple(np.zeros(shape, np.float32) for shape in shapes if shape is not None)
        self._is_static = len(self._arrays) == len(shapes)
        self._answer = self._split(self._arrays) if self._is_static else None
        self._bindings = tuple(self._bound(model.spec.input_name, canvas) for canvas in self._canvases)

    def run(self, canvas: int = 0) -> Outputs:
        """Run the model on what the canvas holds now."""
        session = self._session
        if session is None:
            raise EngineFailed(expected="an open engine", got="a closed one", where=self._where)
        binding = self._bindings[canvas]
        try:
            if self._on_device is not None:
                self._on_device.update_inplace(self._canvases[canvas])
            session.run_with_iobinding(binding)
        except ENGINE_ERRORS as error:
            raise EngineFailed(
                expected="an answer to one frame", got=first_line(error), where=self._where
            ) from error
        # Outputs whose size only this run knew are copied; all others were written where they were bound to.
        return self._answer or self._split(tuple(binding.copy_outputs_to_cpu()))

    def close(self) -> None:
        """Let go of session and buffers."""
        self._session = None
        self._bindings = ()
        self._on_device = None
        self._arrays = ()
        self._answer = None

    def _split(self, arrays: tuple[Floats, ...]) -> Outputs:
        return (arrays[:-1], arrays[-1]) if self._has_features else (arrays, None)

    def _bound(self, input_name: str, canvas: Image) -> Any:
        assert self._session is not None
        binding = self._session.io_binding()
        self._bind_input(binding, input_name, canvas)
        for index, name in enumerate(self._names):
            if not self._is_static:
                binding.bind_output(name, "cpu")
                continue
            # Every canvas has the same outputs: the decoder is done with one run before the next begins.
            array = self._arrays[index]
            binding.bind_output(name, "cpu", 0, np.float32, list(array.shape), array.ctypes.data)
        return binding

    def _bind_input(self, binding: Any, name: str, canvas: Image) -> None:
        shape = list(canvas.shape)
        if self.provider == CPU:
            binding.bind_input(name, "cpu", 0, np.uint8, shape, canvas.ctypes.data)
            return
        # A host array bound to a GPU session is copied at binding time only, so one device buffer is
        # kept for all canvases and written to before each run.
        if self._on_device is None:
            self._on_device = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, "cuda", 0)
        binding.bind_ortvalue_input(name, self._on_device)
