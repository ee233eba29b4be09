"""A model file becomes a detector that answers in the frame's own pixels."""

from __future__ import annotations

import hashlib
import queue
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from detection.errors import EngineFailed, ModelFileError, ModelOutputError, ShapeError
from detection.memory import memory_detector
from detection.session import Detector, DetectorOptions, Prepared
from tests.detection.builders import detections
from tests.detection.onnx_models import Row, TinyModel, save

FRAME = np.full((96, 128, 3), 255, np.uint8)
"""Lies on a 64 x 64 canvas at half size, 8 rows below the top."""
ROWS: tuple[Row, ...] = ((10, 18, 30, 38, 0.8, 1), (12, 20, 22, 30, 0.6, 0))
ON_FRAME = [[20.0, 20.0, 60.0, 60.0], [24.0, 24.0, 44.0, 44.0]]

MODELS = [
    TinyModel(ROWS),
    TinyModel(ROWS, head="end2end"),
    TinyModel(ROWS, head="dfl"),
    TinyModel(ROWS, objectness=True),
    TinyModel(ROWS, dynamic=True),
    TinyModel(ROWS, head="end2end", dynamic=True),
]


@pytest.mark.parametrize(
    "model", MODELS, ids=["dense", "end2end", "dfl", "objectness", "dense-n", "end2end-n"]
)
def test_every_head_answers_in_frame_pixels(model: TinyModel, tmp_path: Path) -> None:
    """All heads, with fixed and with open sizes, give the same boxes on the frame."""
    detector = Detector.load(save(model, tmp_path / "model.onnx"))
    detector.warm_up()
    inference = detector.infer(FRAME)
    np.testing.assert_allclose(inference.detections.xyxy, ON_FRAME, atol=1e-4)
    assert inference.detections.class_id.tolist() == [1, 0]
    np.testing.assert_allclose(inference.detections.confidence, [0.8, 0.6], rtol=1e-6)
    assert inference.features is not None
    assert inference.features.tolist() == [1.0] * 4
    assert min(inference.preprocess_ms, inference.engine_ms, inference.postprocess_ms) >= 0.0


def test_the_model_id_is_the_hash_of_the_file(tmp_path: Path) -> None:
    """A detector carries the identity, contract and provider of what it runs."""
    path = save(TinyModel(), tmp_path / "model.onnx")
    detector = Detector.load(path)
    assert detector.model_id == hashlib.sha256(path.read_bytes()).hexdigest()
    assert detector.class_names == ("scratch", "missing")
    assert (detector.spec.width, detector.spec.height, detector.spec.head) == (64, 64, "dense")
    assert detector.provider == "CPUExecutionProvider"


def test_each_frame_is_seen_anew(tmp_path: Path) -> None:
    """The engine reads the canvas of this frame, and results of the last one do not change with it."""
    detector = Detector.load(save(TinyModel(slope=1.0, offset=0.0), tmp_path / "model.onnx"))
    bright = detector.infer(np.full((64, 64, 3), 200, np.uint8))
    dark = detector.infer(np.zeros((64, 64, 3), np.uint8))
    again = detector.infer(np.full((64, 64, 3), 200, np.uint8))
    assert len(dark.detections) == 0
    assert bright.detections == again.detections
    np.testing.assert_allclose(bright.detections.confidence, [0.9 * 200 / 255], rtol=1e-5)
    assert bright.features is not None
    np.testing.assert_allclose(bright.features, 200 / 255, rtol=1e-5)


def test_boxes_on_the_border_alone_are_dropped(tmp_path: Path) -> None:
    """A box that lies on grey padding only is not on the frame."""
    model = TinyModel(((2, 1, 20, 6, 0.9, 0), (10, 18, 30, 38, 0.8, 1)), head="end2end")
    found = Detector.load(save(model, tmp_path / "model.onnx")).infer(FRAME).detections
    assert found.class_id.tolist() == [1]


def test_a_foreign_class_id_is_an_error(tmp_path: Path) -> None:
    """An end-to-end model that names a class beyond its list is broken, and says so."""
    path = save(TinyModel(((8, 8, 24, 24, 0.9, 7),), head="end2end"), tmp_path / "model.onnx")
    with pytest.raises(ModelOutputError, match=r"below 2, got class ids 7 to 7"):
        Detector.load(path).infer(FRAME)


def test_a_closed_detector_refuses(tmp_path: Path) -> None:
    """After close() an inference fails clearly; closing twice is harmless."""
    detector = Detector.load(save(TinyModel(), tmp_path / "model.onnx"))
    detector.close()
    detector.close()
    with pytest.raises(EngineFailed, match="closed"):
        detector.infer(FRAME)


def test_a_missing_provider_is_not_replaced_silently(tmp_path: Path) -> None:
    """Asking for a provider that is not installed fails and names what is."""
    path = save(TinyModel(), tmp_path / "model.onnx")
    options = DetectorOptions(providers=("NoSuchExecutionProvider", "CPUExecutionProvider"))
    with pytest.raises(EngineFailed, match="CPUExecutionProvider"):
        Detector.load(path, options=options)


def test_options_choose_what_is_reported(tmp_path: Path) -> None:
    """Confidence floor and count limit hold at the detector's door."""
    path = save(TinyModel(ROWS), tmp_path / "model.onnx")
    assert len(Detector.load(path, options=DetectorOptions(min_confidence=0.7)).infer(FRAME).detections) == 1
    assert len(Detector.load(path, options=DetectorOptions(max_detections=1)).infer(FRAME).detections) == 1


def test_a_frame_that_cannot_be_drawn_leaves_the_detector_usable(tmp_path: Path) -> None:
    """A bad frame raises; the next good one is answered."""
    detector = Detector.load(save(TinyModel(), tmp_path / "model.onnx"))
    with pytest.raises(ShapeError):
        detector.infer(np.zeros((4, 4), np.uint8))
    assert len(detector.infer(FRAME).detections) == 1


@pytest.mark.parametrize("model", MODELS[:3], ids=["dense", "end2end", "dfl"])
def test_a_frame_allocates_nothing_large(model: TinyModel, tmp_path: Path) -> None:
    """In steady state a 1080p frame is answered with less than 64 kB of new memory."""
    detector = Detector.load(save(model, tmp_path / "model.onnx"))
    frame = np.full((1080, 1920, 3), 255, np.uint8)
    detector.infer(frame)
    tracemalloc.start()
    detector.infer(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024


def test_the_memory_twin_keeps_the_detector_promises() -> None:
    """A detector without a model file letterboxes, decodes and closes like a real one."""
    detector = memory_detector(lambda canvas: detections((10, 18, 30, 38, 0.8, 1)), ("a", "b"))
    inference = detector.infer(FRAME)
    np.testing.assert_allclose(inference.detections.xyxy, ON_FRAME[:1])
    assert inference.features is None
    detector.close()
    with pytest.raises(EngineFailed):
        detector.infer(FRAME)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """Loading nothing says which file was wanted."""
    with pytest.raises(ModelFileError, match="absent.onnx"):
        Detector.load(tmp_path / "absent.onnx")


def test_a_frame_may_be_prepared_while_the_engine_runs_on_another(tmp_path: Path) -> None:
    """Whatever is prepared meanwhile, each frame gets the answer it gets alone."""
    detector = Detector.load(save(TinyModel(slope=1.0, offset=0.0), tmp_path / "model.onnx"))
    frames = [np.full((48, 64, 3), level, np.uint8) for level in range(60, 250, 2)]
    alone = [detector.infer(frame).detections for frame in frames]
    ready: queue.Queue[Prepared] = queue.Queue(1)

    def prepare() -> None:
        for frame in frames:
            ready.put(detector.prepare(frame))

    thread = threading.Thread(target=prepare, daemon=True)
    thread.start()
    together = [detector.detect(ready.get(timeout=10)).detections for _ in frames]
    thread.join(10)
    assert together == alone


def test_a_drawing_that_is_gone_is_drawn_again(tmp_path: Path) -> None:
    """A frame whose canvas was used since is inspected all the same, and not as the frame drawn over it."""
    detector = Detector.load(save(TinyModel(slope=1.0, offset=0.0), tmp_path / "model.onnx"))
    bright, dark = np.full((64, 64, 3), 220, np.uint8), np.zeros((64, 64, 3), np.uint8)
    expected = detector.infer(bright).detections
    prepared = detector.prepare(bright)
    for _ in range(5):
        detector.prepare(dark)
    assert detector.detect(prepared).detections == expected
    assert detector.detect(prepared).detections == expected


def test_a_frame_prepared_for_another_model_is_prepared_again(tmp_path: Path) -> None:
    """A swap between preparing and inspecting changes the canvas's size, and loses no frame."""
    old = Detector.load(save(TinyModel(), tmp_path / "old.onnx"))
    new = Detector.load(save(TinyModel(width=96, height=32), tmp_path / "new.onnx"))
    prepared = old.prepare(FRAME)
    assert new.detect(prepared).detections == new.infer(FRAME).detections


def test_frames_of_other_sizes_mid_stream_are_placed_anew(tmp_path: Path) -> None:
    """A camera that changes its size gets boxes in the pixels of each frame, on every canvas."""
    detector = Detector.load(save(TinyModel(ROWS, head="dfl"), tmp_path / "model.onnx"))
    sizes = [(96, 128), (48, 64), (64, 64), (96, 128), (200, 50), (96, 128)]
    found = [detector.infer(np.full((*size, 3), 255, np.uint8)).detections for size in sizes * 3]
    for size, one in zip(sizes * 3, found, strict=True):
        assert one.xyxy[:, 2].max() <= size[1]
        assert one == found[sizes.index(size)]


def test_the_runner_up_is_told_by_heads_with_class_scores(tmp_path: Path) -> None:
    """How close the second-best class came is known where the head gives every class's score."""
    for head, told in (("dense", True), ("dfl", True), ("end2end", False)):
        model = TinyModel(ROWS, head=head)  # type: ignore[arg-type]
        found = Detector.load(save(model, tmp_path / f"{head}.onnx")).infer(FRAME).detections
        assert (found.runner_up is not None) == told
        if found.runner_up is not None:
            np.testing.assert_allclose(found.runner_up, 0.0, atol=1e-6)
