"""The real engine and its in-memory twin keep the same promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from detection.errors import EngineFailed, ModelFileError
from detection.letterbox import Letterbox
from detection.memory import MemoryEngine
from detection.model_file import describe
from detection.onnx_engine import Engine, OnnxEngine
from detection.ort_session import engine_cache, open_session
from detection.providers import CPU, TENSORRT, with_engine_cache
from detection.session import Detector
from tests.detection.builders import detections
from tests.detection.onnx_models import TinyModel, save

MODEL = TinyModel(((8, 8, 24, 24, 1.0, 0),), head="end2end", slope=1.0, offset=0.0, positions=1)
"""Answers with one box whose score is the brightness of the canvas."""
Build = Callable[[Letterbox, Path], Engine]


def onnx_engine(letterbox: Letterbox, folder: Path) -> Engine:
    content = save(MODEL, folder / "model.onnx").read_bytes()
    session = open_session(content, "model.onnx", threads=1, providers=None)
    return OnnxEngine(session, describe(session, content, "model.onnx"), [letterbox.canvas])


def memory_engine(letterbox: Letterbox, folder: Path) -> Engine:
    return MemoryEngine(
        [letterbox.canvas], lambda canvas: detections((8, 8, 24, 24, float(canvas.mean()) / 255.0, 0))
    )


engines = pytest.mark.parametrize("build", [onnx_engine, memory_engine])


@engines
def test_a_run_reads_the_canvas_as_it_is_now(build: Build, tmp_path: Path) -> None:
    """The engine shares the canvas's memory: what is drawn on it is what the next run sees."""
    letterbox = Letterbox(64, 64)
    engine = build(letterbox, tmp_path)
    for grey in (0, 51, 255):
        letterbox.fill(np.full((64, 64, 3), grey, np.uint8))
        (raw,), _ = engine.run()
        assert raw.shape == (1, 1, 6)
        assert raw.dtype == np.float32
        np.testing.assert_allclose(raw[0, 0], [8, 8, 24, 24, grey / 255, 0], rtol=1e-5)


@engines
def test_a_closed_engine_refuses(build: Build, tmp_path: Path) -> None:
    """Runs after close() fail with our error; closing again does nothing."""
    engine = build(Letterbox(64, 64), tmp_path)
    engine.close()
    engine.close()
    with pytest.raises(EngineFailed):
        engine.run()


@engines
def test_an_engine_names_what_computes(build: Build, tmp_path: Path) -> None:
    """The provider is known before the first run."""
    assert build(Letterbox(64, 64), tmp_path).provider in {"CPUExecutionProvider", "memory"}


def test_outputs_keep_their_memory(tmp_path: Path) -> None:
    """With fixed sizes the outputs are bound once: each run writes to the same place."""
    engine = onnx_engine(Letterbox(64, 64), tmp_path)
    first, first_features = engine.run()
    second, second_features = engine.run()
    assert first is second
    assert first_features is second_features is not None


def test_the_engine_says_why_a_model_cannot_be_loaded(tmp_path: Path) -> None:
    """A graph with an unknown operator is refused with onnxruntime's own words and the file."""
    path = save(MODEL, tmp_path / "odd.onnx")
    broken = path.read_bytes().replace(b"ReduceMean", b"ReduceMaen")
    with pytest.raises(ModelFileError, match=r"odd\.onnx.*ReduceMaen"):
        open_session(broken, "odd.onnx", threads=1, providers=None)


def test_each_model_file_has_an_engine_cache_of_its_own(tmp_path: Path) -> None:
    """A file that is replaced by another model never gets the engine of the one before."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"first")
    folders = [engine_cache(content, path) for content in (b"first", b"second", b"first")]
    assert folders[0] == folders[2] != folders[1]
    assert all(folder is not None and folder.is_dir() for folder in folders)
    assert {folder.parent for folder in folders if folder} == {tmp_path / "engine"}


def test_a_session_with_tensorrt_keeps_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TensorRT is installed, what it builds in the self-test's child is there for the agent."""
    asked: list[object] = []

    class Session:
        def __init__(self, content: bytes, *, sess_options: object, providers: object) -> None:
            asked.append(providers)

    monkeypatch.setattr(ort, "get_available_providers", lambda: [TENSORRT, CPU])
    monkeypatch.setattr(ort, "InferenceSession", Session)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    for where in (str(path), "in memory"):
        open_session(b"model", where, threads=1, providers=None)
    folder = engine_cache(b"model", path)
    assert asked == [with_engine_cache((TENSORRT, CPU), folder), [TENSORRT, CPU]]


def test_without_a_file_or_a_folder_to_write_there_is_no_engine_cache(tmp_path: Path) -> None:
    """A model in memory, or on a disk that cannot be written, loads all the same."""
    assert engine_cache(b"content", Path("model in memory")) is None
    path = tmp_path / "model.onnx"
    path.write_bytes(b"first")
    (tmp_path / "engine").write_text("in the way")
    assert engine_cache(b"first", path) is None


def test_two_detectors_do_not_disturb_each_other(tmp_path: Path) -> None:
    """While the old model serves in one thread, a new one can be loaded and run in another."""
    path = save(TinyModel(slope=1.0, offset=0.0), tmp_path / "model.onnx")
    problems: list[str] = []

    def serve(grey: int) -> None:
        detector = Detector.load(path)
        frame = np.full((120, 160, 3), grey, np.uint8)
        expected = detector.infer(frame).detections
        if not all(detector.infer(frame).detections == expected for _ in range(100)):
            problems.append(f"grey {grey} gave another answer")
        if not len(expected):
            problems.append(f"grey {grey} found nothing")

    threads = [threading.Thread(target=serve, args=(grey,)) for grey in (100, 220)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert not any(thread.is_alive() for thread in threads)
