"""Be a chip of pins without hardware, which behaves as the kernel's do, stuck pins included."""

from __future__ import annotations

import time
from collections.abc import Mapping

from edge_agent.outputs.gpio import GpioLines


class SimulatedChip:
    """Be a chip without hardware: wires join outputs to inputs, and pins can be stuck.

    Attributes:
        levels: electrical level of every line, True = high.
        wires: output line to the input line that follows it.
        stuck: lines whose level nothing changes, as a pin that is no GPIO; reading them back at the driver
            still shows what was set.
        taken: lines that somebody else has.
        history: moment in seconds of `time.monotonic()`, line and level of every change.
    """

    def __init__(self, lines: int = 32) -> None:
        self.levels = [False] * lines
        self.wires: dict[int, int] = {}
        self.stuck: set[int] = set()
        self.taken: set[int] = set()
        self.history: list[tuple[float, int, bool]] = []

    def request(self, outputs: Mapping[int, bool], inputs: Mapping[int, bool]) -> GpioLines:
        """Take lines, as a kernel chip does."""
        wanted = {**outputs, **inputs}
        if not set(wanted) <= set(range(len(self.levels))):
            raise OSError(22, "Invalid argument")
        if self.taken & set(wanted):
            raise OSError(16, "Device or resource busy")
        self.taken |= set(wanted)
        return _SimulatedLines(self, dict(outputs), dict(inputs))

    def drive(self, line: int, *, high: bool) -> None:
        """Put a level on a line and on what is wired to it."""
        if line in self.stuck:
            return
        self.levels[line] = high
        self.history.append((time.monotonic(), line, high))
        if line in self.wires:
            self.levels[self.wires[line]] = high


class _SimulatedLines:
    """Be lines of a simulated chip."""

    def __init__(self, chip: SimulatedChip, outputs: dict[int, bool], inputs: dict[int, bool]) -> None:
        self._chip = chip
        self._low = {**outputs, **inputs}
        self._registers = dict.fromkeys(outputs, False)
        for line in outputs:
            self.set(line, active=False)

    def set(self, line: int, *, active: bool) -> None:
        self._registers[line] = active
        self._chip.drive(line, high=active != self._low[line])

    def get(self, line: int) -> bool:
        # A driver answers for an output from its register, whatever the pin does.
        if line in self._registers:
            return self._registers[line]
        return self._chip.levels[line] != self._low[line]

    def is_output(self, line: int) -> bool:
        return line in self._registers

    def release(self) -> None:
        self._chip.taken -= set(self._low)
