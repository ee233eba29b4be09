"""Choose what the engine computes on: the fastest of what is installed.

Pure: what is installed is asked elsewhere. Providers we do not know are never chosen, because they
may send frames to a service (`AzureExecutionProvider` is in every wheel).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detection.errors import EngineFailed

TENSORRT = "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
PREFERENCE = (TENSORRT, CUDA, CPU)
"""Fastest first. Later ones take over the graph nodes that earlier ones cannot run."""


def choose_providers(available: Sequence[str]) -> tuple[str, ...]:
    """Return the known providers among the available ones, fastest first.

    Raises:
        EngineFailed: none of the known ones is installed.
    """
    chosen = tuple(name for name in PREFERENCE if name in available)
    if not chosen:
        got = str(list(available))
        raise EngineFailed(expected=f"one of {list(PREFERENCE)}", got=got, where="onnxruntime")
    return chosen


def require_providers(wanted: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """Return the providers a person asked for, if all of them are installed.

    Raises:
        EngineFailed: one is missing; it is not silently replaced, since that would hide a slow box.
    """
    missing = [name for name in wanted if name not in available]
    if missing or not wanted:
        raise EngineFailed(
            expected=f"providers {list(wanted)}",
            got=f"installed are {list(available)}",
            where="onnxruntime",
            now="Install the wheel that has the provider, or leave the choice to what is installed.",
        )
    return tuple(wanted)


def with_engine_cache(chosen: Sequence[str], folder: Path | None) -> list[str | tuple[str, dict[str, str]]]:
    """Let TensorRT keep the engine it builds, for a build takes minutes; the others have nothing to keep.

    Args:
        chosen: names, in order of preference.
        folder: of one model alone, since TensorRT does not tell apart models of the same graph; None = keep
            nothing.
    """
    if folder is None:
        return list(chosen)
    where = str(folder)
    options = {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": where,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": where,
    }
    return [(name, options) if name == TENSORRT else name for name in chosen]
