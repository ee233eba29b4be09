"""Run a model file on frames: letterbox, engine, decoding, back to the frame's pixels.

What the box's loop calls for every frame, and what the gate calls for every validation image.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.decode import DecodeOptions, decoder_for
from detection.detections import Detections, Floats, Image
from detection.errors import ModelOutputError
from detection.letterbox import Letterbox, Placement
from detection.model_file import ModelFile, describe, read_content
from detection.onnx_engine import Engine, OnnxEngine
from detection.ort_session import open_session


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """Say how to run a model.

    Attributes:
        threads: that compute one frame on the CPU.
        providers: onnxruntime's names in order of preference; None chooses by what is installed.
        min_confidence: lowest score that is reported, below any threshold that decides.
        iou: overlap above which the weaker of two boxes of one class is dropped.
        max_detections: most that are reported per frame.
    """

    threads: int = 1
    providers: tuple[str, ...] | None = None
    min_confidence: float = 0.05
    iou: float = 0.6
    max_detections: int = 300


DEFAULT_OPTIONS = DetectorOptions()


@dataclass(frozen=True, slots=True)
class Inference:
    """Hold what one frame gave, and where its time went.

    Attributes:
        detections: in pixels of the frame, strongest first.
        features: (c,) pooled feature vector, or None if the model has none.
        preprocess_ms: from frame to canvas.
        engine_ms: the model's own time.
        postprocess_ms: from raw output to detections.
    """

    detections: Detections
    features: Floats | None
    preprocess_ms: float
    engine_ms: float
    postprocess_ms: float


class Detector:
    """Run one model; for one thread at a time, since canvas and outputs are kept from frame to frame.

    Args:
        engine: bound to the letterbox's canvas.
        model: what is known of the model.
        letterbox: whose canvas the engine reads.
        options: how detections are chosen.
    """

    def __init__(
        self,
        engine: Engine,
        model: ModelFile,
        letterbox: Letterbox,
        options: DetectorOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.model_id = model.model_id
        self.spec = model.spec
        self.class_names = model.class_names
        self.provider = engine.provider
        self._engine = engine
        self._where = model.where
        self._letterbox = letterbox
        shape = model.output_shapes.get(model.spec.detections_name)
        self._decode = decoder_for(
            model.layout,
            None if shape is None else shape[2],
            DecodeOptions(options.min_confidence, options.iou, options.max_detections),
        )

    @classmethod
    def load(cls, path: Path, *, options: DetectorOptions = DEFAULT_OPTIONS) -> Detector:
        """Load a model file; the bytes that are hashed are the bytes that run.

        Raises:
            ModelFileError: absent, unreadable, without our metadata, or contradicting it.
            EngineFailed: a provider that was asked for is not installed.
        """
        content = read_content(path)
        session = open_session(content, str(path), threads=options.threads, providers=options.providers)
        model = describe(session, content, str(path))
        letterbox = Letterbox(model.spec.width, model.spec.height, model.spec.pad_value)
        return cls(OnnxEngine(session, model, letterbox.canvas), model, letterbox, options)

    def infer(self, frame_bgr: Image) -> Inference:
        """Detect in one frame, uint8 (height, width, 3) of any size.

        Raises:
            ShapeError: not such a frame.
            EngineFailed: the engine gave up on it, or the detector is closed.
            ModelOutputError: the model named a class that its class list does not have.
        """
        started = time.perf_counter()
        placement = self._letterbox.fill(frame_bgr)
        filled = time.perf_counter()
        raw, pooled = self._engine.run()
        answered = time.perf_counter()
        detections = self._to_frame(self._decode(raw), placement)
        features = None if pooled is None else np.array(pooled, np.float32).reshape(-1)
        done = time.perf_counter()
        return Inference(
            detections,
            features,
            preprocess_ms=(filled - started) * 1e3,
            engine_ms=(answered - filled) * 1e3,
            postprocess_ms=(done - answered) * 1e3,
        )

    def warm_up(self) -> None:
        """Run once on what the canvas holds, so that the first real frame is not the slow one."""
        raw, _ = self._engine.run()
        self._decode(raw)

    def close(self) -> None:
        """Give the engine's memory back; later calls of `infer` fail."""
        self._engine.close()

    def _to_frame(self, found: Detections, placement: Placement) -> Detections:
        """Move boxes to the frame; those that lay on the grey border alone are dropped."""
        if len(found) == 0:
            return found
        lowest, highest = int(found.class_id.min()), int(found.class_id.max())
        if lowest < 0 or highest >= len(self.class_names):
            raise ModelOutputError(
                expected=f"class ids below {len(self.class_names)}",
                got=f"class ids {lowest} to {highest}",
                where=self._where,
            )
        xyxy = placement.to_frame(found.xyxy)
        visible = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
        moved = Detections(xyxy, found.confidence, found.class_id)
        return moved if visible.all() else moved.select(visible)
