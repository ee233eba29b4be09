"""Pins of the box: a chip that is simulated behaves as libgpiod's does, stuck pins included."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import OutputAway
from edge_agent.outputs.gpio import GpioDevice, open_chip
from edge_agent.outputs.gpio_simulator import SimulatedChip
from edge_agent.settings.outputs import GpioOutput
from tests.edge_agent.outputs.outputs_kit import QUICK, outputs_of, part_of, running_line, write
from tests.helpers import wait_until


def config_of_pins(**more: object) -> GpioOutput:
    """Read an output with a reject line, a stop line that is active low, and an input wired to the first."""
    table = {"kind": "gpio", "name": "pins", "lines": {"reject": 3, "stop": 4}, "active_low": ["stop"],
             "readback": {"reject": 10}, **QUICK, **more}  # fmt: skip
    (config,) = outputs_of(table)
    assert isinstance(config, GpioOutput)
    return config


def chip_with_wire() -> SimulatedChip:
    """Build a chip on which line 10 follows line 3."""
    chip = SimulatedChip()
    chip.wires[3] = 10
    return chip


def test_lines_follow_their_points() -> None:
    """An active-low line is high at rest."""
    chip = chip_with_wire()
    device = GpioDevice(config_of_pins(), lambda _: chip)
    device.connect()
    assert (chip.levels[3], chip.levels[4]) == (False, True)
    device.write(write("reject"))
    device.write(write("stop"))
    assert (chip.levels[3], chip.levels[4], chip.levels[10]) == (True, False, True)
    device.close()
    assert chip.taken == set()


def test_a_pin_that_does_not_move_is_found_by_the_wire_alone() -> None:
    """A pin that is no GPIO reads back as set at the driver; only the wired input tells the truth."""
    chip = chip_with_wire()
    device = GpioDevice(config_of_pins(), lambda _: chip)
    device.connect()
    chip.stuck.add(3)
    with pytest.raises(OutputAway, match="input 10, wired to line 3"):
        device.write(write("reject"))
    unwired = SimulatedChip()
    unwired.stuck.add(3)
    blind = GpioDevice(config_of_pins(readback={}), lambda _: unwired)
    blind.connect()
    blind.write(write("reject"))
    assert unwired.levels[3] is False


def test_a_wire_that_is_stuck_is_found_at_connecting() -> None:
    """The self-test needs no pulse: an input that does not rest with its output is told."""
    chip = SimulatedChip()
    chip.levels[10] = True
    with pytest.raises(OutputAway, match="to be inactive"):
        GpioDevice(config_of_pins(), lambda _: chip).connect()
    assert not any(high for _, line, high in chip.history if line == 3)


def test_a_line_that_somebody_else_has_is_told() -> None:
    """A busy line is refused, as the kernel does."""
    chip = chip_with_wire()
    chip.taken.add(4)
    with pytest.raises(OutputAway, match="busy"):
        GpioDevice(config_of_pins(), lambda _: chip).connect()


def test_a_real_chip_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The adapter of libgpiod says which chip it wanted."""
    config = config_of_pins(chip=str(tmp_path / "gpiochip9"))
    with pytest.raises(OutputAway, match="gpiochip9"):
        GpioDevice(config, open_chip).connect()


def test_a_reject_pulses_its_pin(tmp_path: Path) -> None:
    """Through the sorter: up when due, down after the pulse, and the fail-safe is written directly."""
    chip = chip_with_wire()
    config = config_of_pins(pulse_ms=30, travel_ms=40)
    with running_line(tmp_path, (config,), lambda _: GpioDevice(config, lambda _: chip)) as line:
        line.healthy()
        wait_until(lambda: not chip.levels[3], 5, "the reject line at rest")
        part = part_of("reject")
        line.sorter.on_decision(part)
        wait_until(lambda: line.counted("pins", "fired") == 1 and not chip.levels[3], 5, "the pulse")
        ups = [at for at, number, high in chip.history if (number, high) == (3, True)]
        downs = [at for at, number, high in chip.history if (number, high) == (3, False)]
        assert ups[-1] >= part.captured_mono + 0.04
        assert downs[-1] - ups[-1] >= 0.02
        line.signs.hang()
        wait_until(lambda: chip.levels[3], 5, "all parts to be rejected")
