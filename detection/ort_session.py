"""Load ONNX bytes into onnxruntime, with its errors turned into ours.

First half of the border to onnxruntime; `onnx_engine` is the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from detection.errors import ModelFileError
from detection.providers import choose_providers, require_providers

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
ENGINE_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(ort_state, name) for name in _RAISED if hasattr(ort_state, name)
)
"""Everything onnxruntime raises; its classes share no base of their own."""


def open_session(content: bytes, where: str, *, threads: int, providers: Sequence[str] | None) -> Any:
    """Load the bytes of an ONNX file into an inference session.

    Args:
        content: the file's bytes, so that what was hashed is what runs.
        where: the file, for the error message.
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
    try:
        return ort.InferenceSession(content, sess_options=options, providers=list(chosen))
    except ENGINE_ERRORS as error:
        raise ModelFileError(
            expected=f"an ONNX model that onnxruntime {ort.__version__} reads",
            got=first_line(error),
            where=where,
        ) from error


def first_line(error: Exception) -> str:
    """Return what an engine error says, without its stack of C++ lines."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
