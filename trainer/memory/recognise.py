"""Recognise an error that means memory ran out; by type name and text, so that no torch is needed here.

The texts are those of torch 2.x (allocators, cuBLAS, cuDNN, NCCL, its data loader), numpy, OpenCV, OpenBLAS
and the C++ and OpenMP run times. Some say "memory" only sometimes: those count where little memory was free.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from trainer.memory.port import Kind
from trainer.memory.trouble import SHARED_MEMORY

_DEVICE_TEXTS = (
    "cuda out of memory", "hip out of memory", "xpu out of memory", "cuda error: out of memory",
    "cuda_error_out_of_memory", "cudaerrormemoryallocation", "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed", "cusolver_status_alloc_failed", "cufft_alloc_failed",
)  # fmt: skip
_DEVICE_IF_NEAR = (
    "cudnn_status_internal_error", "cudnn_status_not_supported", "cudnn_status_execution_failed",
    "cublas_status_not_initialized", "unable to find an engine", "cudnn_status_not_initialized",
)  # fmt: skip
_SHARED_TEXTS = ("killed by signal: bus error", "shared memory", "unable to open shared memory", "'/torch_")
_HOST_TEXTS = (
    "defaultcpuallocator", "not enough memory: you tried to allocate", "insufficient memory",
    "cannot allocate memory", "std::bad_alloc", "unable to allocate", "failed to allocate",
    "killed by signal: killed", "memoryerror", "outofmemoryerror",
    "memory allocation still failed", "memory allocation failed", "out of memory allocating",
)  # fmt: skip
_HOST_IF_NEAR = (
    "can't start new thread", "thread creation failed", "image not found", "resource temporarily unavailable",
    "onnxruntime", "failed to map segment", "dataloader worker",
)  # fmt: skip
_SHARED_PLACES = ("/dev/shm", "/torch_", "shared memory")  # noqa: S108 - named, not written to
_NCCL = re.compile(r"nccl|socketstartconnect|processgroup", re.IGNORECASE)
_ASKED = re.compile(
    r"(?:tried|unable|failed) to allocate\s+([\d.]+)\s*(bytes|[kmgt]?i?b)?",
    re.IGNORECASE,
)
_UNITS = {"": 1, "bytes": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


@dataclass(frozen=True, slots=True)
class Room:
    """Say whether little memory was free when an error came: what decides about texts that may mean it."""

    device_short: bool = False
    host_short: bool = False


@dataclass(frozen=True, slots=True)
class Recognised:
    """Name the memory that ran out, what narrows it down, and the bytes the error says were asked for."""

    kind: Kind
    cause: str = ""
    asked_bytes: int = 0


_NO_HINT = Room()


def recognise(error: BaseException, room: Room = _NO_HINT) -> Recognised | None:
    """Return which memory an error means, or None when it means none; causes of the error count too."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        found = _one(one, room)
        if found is not None:
            return found
        one = one.__cause__ or one.__context__
    return None


def recognise_text(text: str, room: Room = _NO_HINT) -> Recognised | None:
    """Return which memory the words of an error or of a log's end mean, or None."""
    words = text.lower()
    asked = asked_bytes(words)
    nccl_short = "out of memory" in words and _NCCL.search(words) is not None
    if nccl_short or any(one in words for one in _DEVICE_TEXTS):
        return Recognised("device", asked_bytes=asked)
    if any(one in words for one in _SHARED_TEXTS):
        return Recognised("host", SHARED_MEMORY, asked)
    if any(one in words for one in _HOST_TEXTS):
        return Recognised("host", asked_bytes=asked)
    if room.device_short and any(one in words for one in _DEVICE_IF_NEAR):
        return Recognised("device", asked_bytes=asked)
    if room.host_short and any(one in words for one in _HOST_IF_NEAR):
        return Recognised("host", asked_bytes=asked)
    return None


def asked_bytes(text: str) -> int:
    """Return how many bytes an error says were asked for, or 0."""
    found = _ASKED.search(text)
    if found is None:
        return 0
    return int(float(found[1]) * _UNITS.get((found[2] or "").lower(), 1))


def _one(error: BaseException, room: Room) -> Recognised | None:
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    if "OutOfMemoryError" in names:
        return Recognised("device", asked_bytes=asked_bytes(text))
    if isinstance(error, MemoryError):
        return Recognised("host", asked_bytes=asked_bytes(text))
    if isinstance(error, OSError):
        return _os_error(error, text)
    if "error" in names and getattr(error, "code", None) == -4:  # cv2.error, StsNoMem
        return Recognised("host", asked_bytes=asked_bytes(text))
    return recognise_text(text, room) if isinstance(error, RuntimeError) or "error" in names else None


def _os_error(error: OSError, text: str) -> Recognised | None:
    if error.errno == errno.ENOMEM:
        return Recognised("host", asked_bytes=asked_bytes(text))
    in_shared = any(place in text for place in _SHARED_PLACES)
    if error.errno == errno.ENOSPC and in_shared:
        return Recognised("host", SHARED_MEMORY)
    return None
