"""Check memory, heat and power mode, where the machine tells."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from edge_agent.care.jetson import Sensors
from edge_agent.care.machine import THROTTLE_C, Machine, available_memory, is_jetson, model_name
from edge_agent.doctor.finding import Finding

NAME = "machine"
LOW_MEMORY_MB = 400
HOT_C = 85.0


class MachineCheck:
    """Read the machine's own numbers."""

    name = NAME

    def check(self) -> Iterator[Finding]:
        """Give memory, then heat and power."""
        yield judge_memory(available_memory())
        sensors = Sensors()
        try:
            machine = sensors.read()
        finally:
            sensors.close()
        board = f"{model_name() or platform.machine()}, Python {platform.python_version()}"
        yield judge_heat(machine, board)
        if is_jetson() and not machine.power_mode:
            yield Finding("warn", NAME, "power mode and power are not known",
                          "Install jetson-stats (sudo pip3 install jetson-stats) to see them.")  # fmt: skip


def judge_memory(memory: tuple[int, int] | None) -> Finding:
    """Judge what is left, in bytes, and all there is."""
    if memory is None:
        return Finding("ok", NAME, "the kernel does not say how much memory is left")
    left, total = (number // 1_000_000 for number in memory)
    words = f"{left} MB of {total} MB memory left"
    if left < LOW_MEMORY_MB:
        return Finding("warn", NAME, words, "Loading a second model may fail: end other programs.")
    return Finding("ok", NAME, words)


def judge_heat(machine: Machine, board: str) -> Finding:
    """Judge the hottest sensor."""
    mode = f", power mode {machine.power_mode}" if machine.power_mode else ""
    if machine.hottest is None:
        return Finding("ok", NAME, f"{board}{mode}; no temperature sensor")
    words = f"{board}{mode}; hottest sensor {machine.hottest:.0f} degrees"
    if machine.hottest >= HOT_C:
        now = f"It slows down at about {THROTTLE_C:g}: clean the fan, cool the cabinet, lower the power mode."
        return Finding("warn", NAME, words, now)
    return Finding("ok", NAME, words)
