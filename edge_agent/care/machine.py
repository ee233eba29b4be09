"""Read temperatures and memory of the machine from files of the kernel; what is absent is left out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

THERMAL = Path("/sys/class/thermal")
MEMINFO = Path("/proc/meminfo")
MODEL = Path("/proc/device-tree/model")
THROTTLE_C = 95.0
"""Jetson modules slow down from about here; so do most others."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Hold what could be read; temperatures in degrees Celsius and power in watts, by name of the sensor."""

    temperatures: Mapping[str, float] = field(default_factory=dict)
    watts: Mapping[str, float] = field(default_factory=dict)
    power_mode: str = ""

    @property
    def hottest(self) -> float | None:
        """Return the highest temperature, None without a sensor."""
        return max(self.temperatures.values(), default=None)


def read_temperatures(folder: Path = THERMAL) -> dict[str, float]:
    """Return the kernel's thermal zones in degrees Celsius; a zone that is switched off is passed over."""
    found: dict[str, float] = {}
    for zone in sorted(folder.glob("thermal_zone*")):
        # A sensor of a part that sleeps answers with an error or with nonsense.
        with suppress(OSError, ValueError):
            name = (zone / "type").read_text(encoding="utf-8").strip() or zone.name
            celsius = int((zone / "temp").read_text(encoding="utf-8")) / 1000.0
            if -40.0 < celsius < 150.0:
                found[name] = max(celsius, found.get(name, celsius))
    return found


def available_memory(path: Path = MEMINFO) -> tuple[int, int] | None:
    """Return the bytes of memory that may still be used and all there are; None where nothing says so."""
    numbers: dict[str, int] = {}
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemAvailable", "MemTotal"):
                numbers[name] = int(rest.split()[0]) * 1024
    if len(numbers) < 2:
        return None
    return numbers["MemAvailable"], numbers["MemTotal"]


def model_name(path: Path = MODEL) -> str:
    """Return what the board calls itself, "" where it does not say (anything but a single-board computer)."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    return ""


def is_jetson() -> bool:
    """Tell whether this is an NVIDIA Jetson."""
    return "jetson" in model_name().lower() or Path("/etc/nv_tegra_release").exists()


def load_average() -> float:
    """Return how many processes wanted to run over the last minute."""
    return os.getloadavg()[0]
