"""Look at a graphics card: by NVIDIA's management library, or at one that only a script knows."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.watch.sample import GpuReader, GpuReading

_log = logging.getLogger("whetstone.trainer")
SIMULATED_GPU = "WHETSTONE_SIMULATED_GPU"
"""Environment variable: a JSON file with the script of a card that is not there (see `SimulatedGpu`)."""


def reader_for(environment: Mapping[str, str], card: str = "") -> GpuReader | None:
    """Return the way to look at this machine's card, or None where there is none.

    Args:
        environment: may name a simulated card's script.
        card: the card's UUID as CUDA tells it, since CUDA and the library may number cards differently; the
            first card when empty.
    """
    script = environment.get(SIMULATED_GPU)
    if script:
        return SimulatedGpu(read_script(Path(script)))
    return NvmlGpu.open(card)


class NvmlGpu:
    """Read a card through nvidia-ml-py; `open` returns None where library, driver or card are missing."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle

    @classmethod
    def open(cls, card: str = "") -> NvmlGpu | None:
        """Start the library and find the card."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            handle = _handle_of(pynvml, card)
        except pynvml.NVMLError as error:
            _log.info("watch.no_gpu reason=%s", error)
            return None
        return cls(pynvml, handle)

    def read(self) -> GpuReading | None:
        """Return the card's state; a card cut in slices tells no utilisation, some tell no power."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        if memory is None:
            return None
        rates, power = self._ask("nvmlDeviceGetUtilizationRates"), self._ask("nvmlDeviceGetPowerUsage")
        return GpuReading(
            utilisation=None if rates is None else rates.gpu / 100.0,
            used_bytes=int(memory.used),
            total_bytes=int(memory.total),
            power_watts=None if power is None else power / 1000.0,
        )

    def close(self) -> None:
        """End the library."""
        self._ask_library("nvmlShutdown")

    def _ask(self, question: str) -> Any:
        return self._ask_library(question, self._handle)

    def _ask_library(self, question: str, *arguments: Any) -> Any:
        try:
            return getattr(self._library, question)(*arguments)
        except self._library.NVMLError as error:
            _log.debug("watch.gpu_silent question=%s reason=%s", question, error)
            return None


def _handle_of(library: Any, card: str) -> Any:
    if not card:
        return library.nvmlDeviceGetHandleByIndex(0)
    name = card if card.startswith(("GPU-", "MIG-")) else f"GPU-{card}"
    return library.nvmlDeviceGetHandleByUUID(name)


@dataclass(frozen=True, slots=True)
class Act:
    """Hold one part of a simulated card's play: what it shows for so many seconds."""

    seconds: float
    reading: GpuReading


class SimulatedGpu:
    """Be a card that shows what a script says, the last act for ever; for tests and for the demo.

    Args:
        acts: what to show, in order; at least one.
        now: a clock in seconds; the play begins at the first look.
    """

    def __init__(self, acts: Sequence[Act], now: Callable[[], float] = time.monotonic) -> None:
        self._acts = tuple(acts)
        self._now = now
        self._began: float | None = None

    def read(self) -> GpuReading | None:
        """Return what the present act shows."""
        if self._began is None:
            self._began = self._now()
        left = self._now() - self._began
        for act in self._acts:
            left -= act.seconds
            if left < 0:
                return act.reading
        return self._acts[-1].reading

    def close(self) -> None:
        """Do nothing."""


def read_script(path: Path) -> tuple[Act, ...]:
    """Read a simulated card's script: a JSON list of objects, `seconds` and the fields of `GpuReading`."""
    acts = []
    for row in json.loads(path.read_text()):
        seconds = float(row.pop("seconds"))
        acts.append(Act(seconds, GpuReading(**row)))
    return tuple(acts)
