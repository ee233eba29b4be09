"""Check what computes the model, and say which onnxruntime wheel a Jetson needs; facts in docs/edge.md."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from detection.errors import EngineFailed
from detection.providers import CPU, CUDA, TENSORRT, choose_providers
from edge_agent.care.machine import is_jetson, model_name
from edge_agent.doctor.finding import Finding

WHEELS = ("onnxruntime-gpu", "onnxruntime")
GUIDE = "docs/edge.md, section 2"


@dataclass(frozen=True, slots=True)
class Engines:
    """Hold what is installed: wheels by name and version, providers, the board."""

    wheels: tuple[tuple[str, str], ...]
    available: tuple[str, ...]
    board: str = ""
    is_jetson: bool = False
    python: tuple[int, int] = (3, 10)


class ProviderCheck:
    """Ask onnxruntime what it can compute on."""

    name = "providers"

    def check(self) -> Iterator[Finding]:
        """Give the wheel, its providers, and advice for the board."""
        try:
            import onnxruntime
        except ImportError as error:
            yield Finding("fail", self.name, f"onnxruntime does not load: {error}",
                          f"Install the wheel of your board: {GUIDE}.")  # fmt: skip
            return
        installed = []
        for name in WHEELS:
            try:
                installed.append((name, metadata.version(name)))
            except metadata.PackageNotFoundError:
                continue
        yield from advice(
            Engines(
                tuple(installed),
                tuple(onnxruntime.get_available_providers()),
                model_name() or platform.machine(),
                is_jetson(),
                sys.version_info[:2],
            )
        )


def advice(engines: Engines) -> Iterator[Finding]:
    """Judge what is installed; pure."""
    wheels = ", ".join(f"{name} {version}" for name, version in engines.wheels) or "a wheel of unknown name"
    words = f"{wheels}; providers {', '.join(engines.available)}; {engines.board}"
    try:
        chosen = choose_providers(engines.available)
    except EngineFailed as error:
        yield Finding("fail", "providers", f"{words}: {error}", f"Install another wheel: {GUIDE}.")
        return
    if len(engines.wheels) > 1:
        yield Finding("fail", "providers", f"both {wheels}: each overwrites files of the other",
                      "pip uninstall both, then install the one of your board.")  # fmt: skip
    if engines.is_jetson:
        yield from _jetson_advice(engines, words, chosen)
    elif chosen == (CPU,):
        yield Finding("ok", "providers", f"{words}: computes on the CPU")
    else:
        yield Finding("ok", "providers", f"{words}: computes on {chosen[0]}")


def _jetson_advice(engines: Engines, words: str, chosen: Sequence[str]) -> Iterator[Finding]:
    if chosen[0] == TENSORRT:
        yield Finding("ok", "providers", f"{words}: TensorRT")
        return
    if CUDA in chosen:
        # Only PyPI's aarch64 wheel has CUDA without TensorRT.
        now = (
            "This looks like PyPI's aarch64 wheel: it has no TensorRT and no kernels for Orin (sm_87) or Thor"
            " (sm_110), so it fails at the first frame or is slow. Install a wheel built for your JetPack:"
            f" {GUIDE}."
        )
        yield Finding("fail", "providers", f"{words}: CUDA without TensorRT", now)
        return
    now = f"The CPU wheel runs, many times slower than TensorRT: install a wheel of your JetPack, {GUIDE}."
    if engines.python == (3, 10):
        now += " On JetPack 6 (Python 3.10) PyPI ends at 1.23.2, without a GPU."
    yield Finding("warn", "providers", f"{words}: the GPU is not used", now)
