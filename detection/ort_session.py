"""Load ONNX bytes into onnxruntime, with its errors turned into ours.

First half of the border to onnxruntime; `onnx_engine` is the other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from detection.errors import ModelFileError
from detection.providers import TENSORRT, choose_providers, require_providers, with_engine_cache

_RAISED = (
    "EPFail",
    "EngineError",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "ModelLoaded",
    "NoModel",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
)
ENGINE_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,  # what a run with a binding raises
    *(getattr(ort_state, name) for name in _RAISED if hasattr(ort_state, name)),
)
"""Everything onnxruntime raises; its classes share no base of their own."""


def open_session(content: bytes, where: str, *, threads: int, providers: Sequence[str] | None) -> Any:
    """Load the bytes of an ONNX file into an inference session.

    Other threads pause while onnxruntime holds the interpreter's lock: from 1.31 on for the moment in which
    it reads the file, with 1.23 until the session stands (some 30 ms for a small model), and for minutes
    where TensorRT builds an engine. What that builds is kept beside the model file, so a release that passed
    its self-test in a child has its engine before the agent loads it.

    Args:
        content: the file's bytes, so that what was hashed is what runs.
        where: the file, for the error message and the engine's cache; without such a file nothing is kept.
        threads: that compute one frame.
        providers: in order of preference; None chooses by what is installed.

    Raises:
        ModelFileError: onnxruntime cannot read it.
        EngineFailed: a provider asked for is not installed.
    """
    available = ort.get_available_providers()
    chosen = choose_providers(available) if providers is None else require_providers(providers, available)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle workers that spin would take the core that captures and encodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    cache = engine_cache(content, Path(where)) if TENSORRT in chosen else None
    use = with_engine_cache(chosen, cache)
    try:
        # TensorRT names engines by the file, which must not be another one at each load.
        if TENSORRT in chosen:
            return ort.InferenceSession(content, sess_options=options, providers=use)
        with _in_memory_file(content) as source:
            return ort.InferenceSession(source, sess_options=options, providers=use)
    except ENGINE_ERRORS as error:
        raise ModelFileError(
            expected=f"an ONNX model that onnxruntime {ort.__version__} reads",
            got=first_line(error),
            where=where,
        ) from error


@contextmanager
def _in_memory_file(content: bytes) -> Iterator[str | bytes]:
    """Give the bytes as a file that only this process has, where there are such files.

    Of bytes onnxruntime makes two copies, one of them under the interpreter's lock: 5 ms of pause instead of
    one and a half, and the model's size more in memory for as long as the session lives.
    """
    try:
        number = os.memfd_create("model")
    except (AttributeError, OSError):
        yield content
        return
    with os.fdopen(number, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{number}"


def engine_cache(content: bytes, path: Path) -> Path | None:
    """Make the folder for the engines of a model and return it; None where there is none to be had.

    The model's hash is part of it, for TensorRT would take the engine of another model of the same graph.
    """
    if not path.is_file():
        return None
    folder = path.parent / "engine" / hashlib.sha256(content).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        # Read-only or full: the engine is built at every load.
        return None
    return folder


def first_line(error: Exception) -> str:
    """Return what an engine error says, without its stack of C++ lines."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
