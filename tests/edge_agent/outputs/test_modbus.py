"""Modbus TCP against a real server in a process of its own, which can hang and die."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.errors import OutputAway
from edge_agent.outputs.memory import MemoryOutput
from edge_agent.outputs.modbus import ModbusDevice
from edge_agent.settings.outputs import AnyOutput, ModbusOutput
from tests.edge_agent.outputs.outputs_kit import QUICK, outputs_of, part_of, running_line, write
from tests.edge_agent.outputs.plc import Plc, running_plc
from tests.helpers import free_port, wait_until

COILS = {"reject": 0, "unsure": 1, "heartbeat": 7, "stop": 8, "failsafe": 9}


@pytest.fixture
def plc() -> Iterator[Plc]:
    with running_plc("modbus") as real:
        yield real


def config_of_plc(plc: Plc, **more: object) -> ModbusOutput:
    """Read an output for this PLC."""
    table = {"kind": "modbus", "name": "ejector", "host": "127.0.0.1", "port": plc.port, "coils": COILS,
             "registers": {"parts": 20, "verdict": 21}, **more}  # fmt: skip
    (config,) = outputs_of(table)
    assert isinstance(config, ModbusOutput)
    return config


def test_points_reach_coils_and_registers(plc: Plc) -> None:
    """A bit goes to its coil, a number to its register."""
    device = ModbusDevice(config_of_plc(plc))
    device.connect()
    for one in (write("reject"), write("reject", 0), write("parts", 65535), write("verdict", 3)):
        device.write(one)
    wait_until(lambda: plc.shows("register 21") == 3, 5, "the PLC to tell")
    written = [(what, value) for what, value, _ in plc.writes if what != "ready"]
    assert written == [("coil 0", 1), ("coil 0", 0), ("register 20", 65535), ("register 21", 3)]
    device.close()


def test_an_address_the_plc_refuses_is_told(plc: Plc) -> None:
    """A wrong address map says which address of which unit."""
    device = ModbusDevice(config_of_plc(plc, coils={"reject": 4000}))
    device.connect()
    with pytest.raises(OutputAway, match="coil 4000 of unit 1"):
        device.write(write("reject"))
    device.close()


def test_reading_finds_the_addresses_a_plc_refuses_and_sets_none(plc: Plc) -> None:
    """A device of 64 registers has no register 100; nothing on the line moves while that is found out."""
    device = ModbusDevice(config_of_plc(plc, coils={"reject": 0, "stop": 64}, registers={"parts": 100}))
    device.connect()
    assert device.refused() == {
        "stop": "coil 64: illegal address",
        "parts": "register 100: illegal address",
    }
    device.close()
    assert {what for what, *_ in plc.writes} <= {"ready"}


def test_a_refused_register_does_not_keep_the_ejector_from_firing(plc: Plc, tmp_path: Path) -> None:
    """The wrong address stands as a problem between parts too; the connection stands, every reject fires."""
    registers = {"parts": 100, "verdict": 21}
    with running_line(tmp_path, (config_of_plc(plc, registers=registers, **QUICK),)) as line:
        line.healthy()
        for number in range(3):
            line.sorter.on_decision(part_of("reject", f"P{number}"))
            wait_until(lambda: line.counted("ejector", "fired") == number + 1, 5, "the reject to fire")  # noqa: B023
            problem = line.events.problems()["output.refused.ejector"]
            assert "parts" in problem
            assert "register 100 of unit 1" in problem
        wait_until(lambda: plc.shows("register 21") == 2, 5, "the verdict beside it to be written")
        beats = len(plc.of("coil 7"))
        wait_until(lambda: len(plc.of("coil 7")) >= beats + 2, 5, "the heart to beat on")
        assert "output.refused.ejector" in line.events.problems(), "it stands between parts"
        assert line.events.count("output.connected") == 1, "it was taken for a dead device"
        assert line.counted("ejector", "missed") == 0
        wait_until(lambda: plc.shows("coil 0") == 0, 5, "the pulse to end")


def test_a_refused_ejector_keeps_the_output_away(plc: Plc, tmp_path: Path) -> None:
    """Nobody may rely on an ejector whose coil is not there: the problem stands however often it connects."""
    with running_line(tmp_path, (config_of_plc(plc, coils={**COILS, "reject": 4000}, **QUICK),)) as line:
        wait_until(
            lambda: "coil 4000" in line.events.problems().get("output.away.ejector", ""), 5, "the problem"
        )
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            assert "output.away.ejector" in line.events.problems()
            line.sorter.workers[0].join(0.02)
        assert line.sorter.status()[0].state == "safe"
        assert line.events.count("output.connected") == 0


def test_a_plc_that_is_not_there_is_told_at_once() -> None:
    """Nothing listens: the error comes within the timeout and names the address."""
    port = free_port()
    table = {"kind": "modbus", "name": "gone", "host": "127.0.0.1", "port": port, "coils": {"reject": 0}}
    (config,) = outputs_of(table)
    assert isinstance(config, ModbusOutput)
    with pytest.raises(OutputAway, match=str(port)):
        ModbusDevice(config).connect()


def test_a_frozen_plc_answers_no_write_within_its_timeout(plc: Plc) -> None:
    """A stopped PLC whose connection stands costs one short timeout, not pymodbus' own nine seconds."""
    device = ModbusDevice(config_of_plc(plc, timeout_ms=150))
    device.connect()
    device.write(write("reject"))
    plc.freeze()
    began = time.monotonic()
    with pytest.raises(OutputAway):
        device.write(write("reject", 0))
    assert 0.1 < time.monotonic() - began < 1.0
    plc.wake()
    device.close()


def test_a_dead_plc_delays_neither_the_loop_nor_other_outputs(plc: Plc, tmp_path: Path) -> None:
    """Frozen in mid-shift: decisions cost the loop nothing, another output is on time, and it comes back."""
    memory = MemoryOutput()

    def opener(config: AnyOutput) -> MemoryOutput | ModbusDevice:
        return ModbusDevice(config) if isinstance(config, ModbusOutput) else memory

    lamp = outputs_of({"kind": "log", "name": "lamp", "travel_ms": 50, **QUICK})
    with running_line(tmp_path, (config_of_plc(plc, **QUICK, timeout_ms=800), *lamp), opener) as line:
        line.healthy()
        line.sorter.on_decision(part_of("reject"))
        wait_until(lambda: line.counted("ejector", "fired") == 1, 5, "the PLC to be written")
        plc.freeze()
        frozen_at = time.monotonic()
        longest = 0.0
        for number in range(50):
            began = time.perf_counter()
            line.sorter.on_decision(part_of("accept", f"P{number}"))
            longest = max(longest, time.perf_counter() - began)
            wait_until(lambda: line.counted("lamp", "fired") > number, 5, "the lamp to fire")  # noqa: B023
        wait_until(lambda: "output.failsafe.ejector" in line.events.problems(), 5, "the fail-safe state")
        assert line.counted("lamp", "missed") == 0
        assert line.sorter.workers[1].lateness.quantiles(0.5)[0] < 50.0
        assert longest < 0.5, "the loop waited for a PLC"
        assert "output.away.ejector" in line.events.problems()
        assert time.monotonic() - frozen_at < 10.0
        plc.wake()
        line.healthy()
        wait_until(lambda: plc.shows("coil 9") == 0, 5, "the fail-safe flag to be taken back")
        assert plc.of("coil 9")[-1] > frozen_at, "the PLC was told the fail-safe state before it was trusted"


def test_the_fail_safe_state_is_written_within_a_second(plc: Plc, tmp_path: Path) -> None:
    """With the default times a hung engine stops the line in time, as the PLC sees it."""
    config = config_of_plc(plc, failsafe="stop_line")
    with running_line(tmp_path, (config,)) as line:
        line.healthy()
        wait_until(lambda: plc.shows("coil 8") == 0, 5, "the line to run")
        began = time.monotonic()
        line.signs.hang()
        wait_until(lambda: plc.shows("coil 8") == 1, 5, "the line to stop")
        assert plc.of("coil 8")[-1] - began < 1.0


def test_a_plc_that_was_away_gets_the_fail_safe_state_first(plc: Plc, tmp_path: Path) -> None:
    """Killed and started again: what it hears first is that it must not rely on us yet."""
    with running_line(tmp_path, (config_of_plc(plc, **QUICK),)) as line:
        line.healthy()
        plc.kill()
        wait_until(lambda: line.sorter.status()[0].state == "safe", 5, "the safe state")
        plc.writes.clear()
        plc.start()
        line.healthy()
        wait_until(lambda: plc.shows("coil 0") == 0, 5, "the reject coil at rest")
        rejects = [(what, value) for what, value, _ in plc.writes if what in ("coil 0", "coil 9")]
        assert rejects[0] == ("coil 0", 1)


def test_the_heartbeat_comes_at_least_four_times_a_second(plc: Plc, tmp_path: Path) -> None:
    """The PLC can notice our death by itself."""
    with running_line(tmp_path, (config_of_plc(plc),)):
        wait_until(lambda: len(plc.of("coil 7")) + len(plc.of("coil 7", 0)) >= 8, 10, "eight beats")
    beats = sorted(plc.of("coil 7") + plc.of("coil 7", 0))
    gaps = sorted(after - before for before, after in zip(beats, beats[1:], strict=False))
    assert gaps[len(gaps) // 2] <= 0.25
