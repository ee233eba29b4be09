"""Run a model file on frames: letterbox, engine, decoding, back to the frame's pixels.

What the box's loop calls for every frame, and what the gate calls for every validation image. A frame can be
prepared on one thread while another runs the engine on the frame before it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.canvases import CANVASES, Canvas, CanvasRing
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


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Hold a frame that was drawn onto a canvas; worth something to the detector that drew it.

    The drawing lasts until about two more frames were prepared; `Detector.detect` then draws it again.
    """

    frame: Image
    placement: Placement
    canvas: Canvas
    ticket: int
    prepare_ms: float
    detector: Detector


class Detector:
    """Run one model: `prepare` may be called on one thread while another is within `detect`.

    `detect` and `infer` are for one thread at a time, since outputs are kept from frame to frame.

    Args:
        engine: bound to the letterboxes' canvases, in their order.
        model: what is known of the model.
        letterboxes: whose canvases the engine reads.
        options: how detections are chosen.
    """

    def __init__(
        self,
        engine: Engine,
        model: ModelFile,
        letterboxes: Sequence[Letterbox],
        options: DetectorOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.model_id = model.model_id
        self.spec = model.spec
        self.class_names = model.class_names
        self.feature_reference = model.feature_reference
        self.provider = engine.provider
        self._engine = engine
        self._where = model.where
        self._canvases = CanvasRing(letterboxes)
        self._decode = decoder_for(
            model, DecodeOptions(options.min_confidence, options.iou, options.max_detections)
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
        spec = model.spec
        letterboxes = [Letterbox(spec.width, spec.height, spec.pad_value) for _ in range(CANVASES)]
        engine = OnnxEngine(session, model, [letterbox.canvas for letterbox in letterboxes])
        return cls(engine, model, letterboxes, options)

    def infer(self, frame_bgr: Image) -> Inference:
        """Detect in one frame, uint8 (height, width, 3) of any size.

        Raises:
            ShapeError: not such a frame.
            EngineFailed: the engine gave up on it, or the detector is closed.
            ModelOutputError: the model named a class that its class list does not have.
        """
        return self.detect(self.prepare(frame_bgr))

    def prepare(self, frame_bgr: Image) -> Prepared:
        """Draw a frame, uint8 (height, width, 3) of any size, onto a canvas the engine does not read now.

        Raises:
            ShapeError: not such a frame.
        """
        started = time.perf_counter()
        canvas = self._canvases.take()
        ticket = canvas.ticket
        try:
            placement = canvas.letterbox.fill(frame_bgr)
        finally:
            self._canvases.put(canvas)
        took_ms = (time.perf_counter() - started) * 1e3
        return Prepared(frame_bgr, placement, canvas, ticket, took_ms, self)

    def detect(self, prepared: Prepared) -> Inference:
        """Detect in a prepared frame; one that another detector prepared, or too long ago, is prepared again.

        Raises:
            EngineFailed: the engine gave up on it, or the detector is closed.
            ModelOutputError: the model named a class that its class list does not have.
        """
        while prepared.detector is not self or not self._canvases.claim(prepared.canvas, prepared.ticket):
            prepared = self.prepare(prepared.frame)
        try:
            started = time.perf_counter()
            outputs, pooled = self._engine.run(prepared.canvas.index)
            answered = time.perf_counter()
        finally:
            self._canvases.put(prepared.canvas)
        detections = self._to_frame(self._decode(outputs), prepared.placement)
        features = None if pooled is None else np.array(pooled, np.float32).reshape(-1)
        done = time.perf_counter()
        return Inference(
            detections,
            features,
            preprocess_ms=prepared.prepare_ms,
            engine_ms=(answered - started) * 1e3,
            postprocess_ms=(done - answered) * 1e3,
        )

    def warm_up(self) -> None:
        """Run once on what a canvas holds, so that the first real frame is not the slow one."""
        outputs, _ = self._engine.run()
        self._decode(outputs)

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
        moved = Detections(xyxy, found.confidence, found.class_id, found.runner_up)
        return moved if visible.all() else moved.select(visible)
