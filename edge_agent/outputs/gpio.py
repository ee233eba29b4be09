"""Set pins of the box, with libgpiod; `gpio_simulator` is a chip without hardware.

On a Jetson a pin only follows when the device tree made it a GPIO: since JetPack 6 nothing can do that at
run time, and a request for such a pin succeeds all the same. So a pin is read back after every write, and
where an input is wired to it (`readback`), at the pin itself; only the latter proves that the pin moves. The
self-test at connecting sets every pin to rest, never to its active level: that would eject a part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from edge_agent.errors import OutputAway
from edge_agent.optional import optional
from edge_agent.outputs.base import Point, Write
from edge_agent.settings.outputs import GpioOutput

CONSUMER = "whetstone-agent"
SETTLE_S = 0.002
"""How long a wired input may take to follow."""


class GpioLines(Protocol):
    """Be lines that were requested; values are logical, active low is the chip's business."""

    def set(self, line: int, *, active: bool) -> None:
        """Set an output."""

    def get(self, line: int) -> bool:
        """Read a line."""

    def is_output(self, line: int) -> bool:
        """Tell whether the kernel drives the line."""

    def release(self) -> None:
        """Give the lines back."""


class GpioChip(Protocol):
    """Be a chip that lines are requested of."""

    def request(self, outputs: Mapping[int, bool], inputs: Mapping[int, bool]) -> GpioLines:
        """Take lines for ourselves, outputs at rest; the values say which are active low.

        Raises:
            OSError: there is no such line, or somebody else has it.
        """


class GpioDevice:
    """Be pins of this box.

    Raises:
        ConfigError: gpiod is not installed.
    """

    def __init__(self, config: GpioOutput, opener: Callable[[str], GpioChip]) -> None:
        self.points: frozenset[Point] = config.addressed()
        self._config = config
        self._lines: dict[Any, int] = dict(config.lines)
        self._readback: dict[Any, int] = dict(config.readback)
        self._open = opener
        self._held: GpioLines | None = None

    def connect(self) -> None:
        """Take the lines and test them at rest."""
        low = {point: point in self._config.active_low for point in self._lines}
        outputs = {line: low[point] for point, line in self._lines.items()}
        inputs = {line: low[point] for point, line in self._readback.items()}
        try:
            self._held = self._open(self._config.chip).request(outputs, inputs)
            for point, line in self._lines.items():
                if not self._held.is_output(line):
                    raise self._away(f"line {line} ({point}) to be an output", "an input")
                self._set(self._held, point, line, active=False)
        except OSError as error:
            raise self._away("lines of our own", str(error)) from error

    def write(self, write: Write) -> None:
        """Set the point's line and read it back."""
        if self._held is None:
            raise self._away("lines of our own", "none")
        try:
            self._set(self._held, write.point, self._lines[write.point], active=bool(write.value))
        except OSError as error:
            raise self._away(f"line {self._lines[write.point]} to be set", str(error)) from error

    def close(self) -> None:
        """Give the lines back; what they then show is the driver's choice."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def _set(self, held: GpioLines, point: Point, line: int, *, active: bool) -> None:
        held.set(line, active=active)
        if held.get(line) != active:
            raise self._away(
                f"line {line} ({point}) to be {_words(active=active)}",
                f"{_words(active=not active)} when read back",
            )
        wired = self._readback.get(point)
        if wired is not None and not _follows(held, wired, active=active):
            raise self._away(
                f"input {wired}, wired to line {line} ({point}), to be {_words(active=active)}",
                _words(active=not active),
            )

    def _away(self, expected: str, got: str) -> OutputAway:
        return OutputAway(
            expected=expected,
            got=got,
            where=f"gpio {self._config.chip}",
            now="Check the lines with gpioinfo; on a Jetson the pin must be a GPIO in the device tree.",
        )


def _follows(held: GpioLines, line: int, *, active: bool) -> bool:
    deadline = time.monotonic() + SETTLE_S
    while held.get(line) != active:
        if time.monotonic() > deadline:
            return False
    return True


def _words(*, active: bool) -> str:
    return "active" if active else "inactive"


def open_chip(path: str) -> GpioChip:
    """Open a real chip by its path, such as `/dev/gpiochip0`.

    Raises:
        ConfigError: gpiod is not installed.
        OSError: there is no such chip, or we may not open it.
    """
    return _RealChip(optional("gpiod", "an output of kind gpio"), path)


class _RealChip:
    """Be a chip of the kernel."""

    def __init__(self, gpiod: Any, path: str) -> None:
        self._gpiod = gpiod
        self._chip = gpiod.Chip(path)

    def request(self, outputs: Mapping[int, bool], inputs: Mapping[int, bool]) -> GpioLines:
        kinds, settings = self._gpiod.line, self._gpiod.LineSettings
        config = {
            line: settings(
                direction=kinds.Direction.OUTPUT, active_low=low, output_value=kinds.Value.INACTIVE
            )
            for line, low in outputs.items()
        }
        config |= {
            line: settings(direction=kinds.Direction.INPUT, active_low=low) for line, low in inputs.items()
        }
        try:
            return _RealLines(self._gpiod, self._chip, self._chip.request_lines(config, consumer=CONSUMER))
        except BaseException:
            self._chip.close()
            raise


class _RealLines:
    """Be lines of a chip of the kernel."""

    def __init__(self, gpiod: Any, chip: Any, request: Any) -> None:
        self._values = gpiod.line.Value
        self._output = gpiod.line.Direction.OUTPUT
        self._chip = chip
        self._request = request

    def set(self, line: int, *, active: bool) -> None:
        self._request.set_value(line, self._values.ACTIVE if active else self._values.INACTIVE)

    def get(self, line: int) -> bool:
        return bool(self._request.get_value(line) == self._values.ACTIVE)

    def is_output(self, line: int) -> bool:
        return bool(self._chip.get_line_info(line).direction == self._output)

    def release(self) -> None:
        self._request.release()
        self._chip.close()
