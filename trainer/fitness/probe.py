"""Ask driver and CUDA what is there: `python -m trainer.fitness.probe [DESCRIPTION]` prints one JSON object.

A process of its own: a card that fell off its bus makes calls hang that no thread can be taken out of, and
starting CUDA takes memory that would stay. With a file that describes a driver, that one answers instead.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from trainer.fitness.simulated import answer_of


def main(arguments: list[str]) -> int:
    """Print what is there."""
    seen = answer_of(Path(arguments[0])) if arguments else {**_driver(), **_cuda()}
    sys.stdout.write(json.dumps(seen) + "\n")
    return 0


def _driver() -> dict[str, Any]:
    try:
        import pynvml
    except ImportError:
        return {"error": "the package nvidia-ml-py is not installed"}
    try:
        pynvml.nvmlInit()
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        return {
            "version": _text(pynvml.nvmlSystemGetDriverVersion()),
            "cuda": [cuda // 1000, cuda % 1000 // 10],
            "cards": list(_cards(pynvml)),
        }
    except pynvml.NVMLError as error:
        return {"error": str(error)}


def _handles(library: Any) -> Iterator[Any]:
    """Yield every card CUDA would see: of one cut in slices (MIG) the slices. Not tried on such a card."""
    for number in range(library.nvmlDeviceGetCount()):
        handle = _or_none(library, partial(library.nvmlDeviceGetHandleByIndex, number))
        if handle is None:
            continue
        mode = _or_none(library, partial(library.nvmlDeviceGetMigMode, handle))
        if not mode or mode[0] == 0:
            yield handle
            continue
        for place in range(library.nvmlDeviceGetMaxMigDeviceCount(handle)):
            piece = _or_none(library, partial(library.nvmlDeviceGetMigDeviceHandleByIndex, handle, place))
            if piece is not None:
                yield piece


def _cards(library: Any) -> Iterator[dict[str, Any]]:
    """Yield every card that answers: one that fell off its bus must not hide the others."""
    for handle in _handles(library):
        card = _or_none(library, partial(_card, library, handle))
        if card is not None:
            yield card


def _card(library: Any, handle: Any) -> dict[str, Any]:
    memory = library.nvmlDeviceGetMemoryInfo(handle)
    return {
        "name": _text(library.nvmlDeviceGetName(handle)),
        "total_bytes": int(memory.total),
        "free_bytes": int(memory.free),
        "capability": _or_none(library, lambda: list(library.nvmlDeviceGetCudaComputeCapability(handle))),
    }


def _or_none(library: Any, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except library.NVMLError:
        return None


def _cuda() -> dict[str, Any]:
    """Start CUDA's driver library; no context is made, so no card memory is taken."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"cuda_error": str(error)}
    status = library.cuInit(0)
    if status != 0:
        told = ctypes.c_char_p()
        library.cuGetErrorString(status, ctypes.byref(told))
        return {"cuda_error": f"cuInit: {(told.value or b'').decode() or status}"}
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    return {"usable": count.value}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
