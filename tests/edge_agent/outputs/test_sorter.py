"""Workers and sorter with outputs in memory: who fires when, and what a dead device does to the others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_agent.outputs.base import Write
from edge_agent.outputs.memory import MemoryOutput
from edge_agent.settings.outputs import AnyOutput
from tests.edge_agent.outputs.outputs_kit import QUICK, Line, outputs_of, part_of, running_line
from tests.helpers import wait_until


class Twins:
    """Be the outputs of a line, all in memory, by name."""

    def __init__(self) -> None:
        self.made: dict[str, MemoryOutput] = {}

    def __call__(self, config: AnyOutput) -> MemoryOutput:
        return self.made.setdefault(config.name, MemoryOutput())


def outputs(**names: dict[str, object]) -> tuple[AnyOutput, ...]:
    """Read log outputs, which have every point in memory, with quick fail-safes."""
    tables = ({"kind": "log", "name": name, "on": ["reject"], "unsure": "reject", **QUICK, **more}
              for name, more in names.items())  # fmt: skip
    return outputs_of(*tables)


def test_a_reject_fires_after_its_travel_time(tmp_path: Path) -> None:
    """The pulse comes at capture plus travel, is counted with its lateness, and ends."""
    twins = Twins()
    with running_line(tmp_path, outputs(gate={"travel_ms": 300, "pulse_ms": 50}), twins) as line:
        line.healthy()
        part = part_of("reject", age_s=0.1)
        line.sorter.on_decision(part)
        line.sorter.on_decision(part_of("accept"))
        gate = twins.made["gate"]
        wait_until(lambda: line.counted("gate", "fired") == 1, 5, "the reject to fire")
        at, write = gate.of("reject")[-1]
        assert at >= part.captured_mono + 0.3
        assert write.shot is not None
        assert write.shot.part_id == part.part_id
        wait_until(lambda: gate.levels["reject"] == 0, 5, "the pulse to end")
        wait_until(lambda: gate.levels.get("parts") == 2, 5, "the part counter")
        assert line.sorter.status()[0].late_p50_ms >= 0.0


def test_a_decision_after_the_due_time_is_missed_and_reported(tmp_path: Path) -> None:
    """A part that is past its ejector is told and not fired on another part."""
    twins = Twins()
    with running_line(tmp_path, outputs(gate={"travel_ms": 10, "late_ok_ms": 5}), twins) as line:
        line.healthy()
        before = len(twins.made["gate"].of("reject"))
        line.sorter.on_decision(part_of("reject", age_s=1.0))
        wait_until(lambda: line.counted("gate", "missed") == 1, 5, "the miss to be counted")
        assert line.events.count("output.missed") == 1
        assert len(twins.made["gate"].of("reject")) == before


def test_a_device_that_hangs_delays_nobody_else(tmp_path: Path) -> None:
    """The loop's call returns at once and the other output is on time while one output takes 1 s a call."""
    twins = Twins()
    with running_line(tmp_path, outputs(dead={}, gate={"travel_ms": 100}), twins) as line:
        line.healthy()
        twins.made["dead"].hangs_s = 1.0
        took = []
        for number in range(20):
            began = time.perf_counter()
            line.sorter.on_decision(part_of("reject", f"P{number}"))
            took.append(time.perf_counter() - began)
        wait_until(lambda: line.counted("gate", "fired") == 20, 10, "the other output to fire")
        wait_until(lambda: "output.away.dead" in line.events.problems(), 5, "the dead one to be reported")
        assert max(took) < 0.5
        assert line.sorter.workers[1].lateness.quantiles(0.5)[0] < 100.0


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (lambda line: line.signs.hang(), "the loop has stopped"),
        (lambda line: line.events.set_problem("camera.frozen", "no change"), "camera.frozen"),
        (lambda line: setattr(line.signs, "serving", False), "no model"),
    ],
    ids=["engine hung", "camera fault", "no model"],
)
def test_without_inspection_the_line_is_made_safe_within_a_second(tmp_path: Path, trouble, why: str) -> None:  # type: ignore[no-untyped-def]
    """Default times, each cause: the stop point is set in time, held, and let go when all is well."""
    twins = Twins()
    configured = outputs(gate={"failsafe": "stop_line", "failsafe_after_ms": 200, "stall_ms": 500})
    with running_line(tmp_path, configured, twins) as line:
        line.healthy()
        gate = twins.made["gate"]
        wait_until(lambda: gate.levels["stop"] == 0, 5, "the line to run")
        began = time.monotonic()
        trouble(line)
        wait_until(lambda: gate.levels["stop"] == 1, 5, "the line to be stopped")
        assert gate.of("stop")[-1][0] - began < 1.0
        assert why in line.events.problems()["output.failsafe.gate"]
        line.sorter.on_decision(part_of("reject"))
        wait_until(lambda: line.counted("gate", "held") == 1, 5, "the part to be held")
        line.signs.go_on()
        line.signs.serving = True
        line.events.clear_problem("camera.frozen")
        line.healthy()
        wait_until(lambda: gate.levels["stop"] == 0, 5, "the line to run again")
        assert "output.failsafe.gate" not in line.events.problems()


def test_an_output_that_was_away_is_made_safe_before_it_is_trusted(tmp_path: Path) -> None:
    """The first thing after a long absence is the fail-safe state, and only then the line runs."""
    twins = Twins()
    with running_line(tmp_path, outputs(gate={"recover_ms": 300}), twins) as line:
        line.healthy()
        gate = twins.made["gate"]
        gate.away = True
        wait_until(lambda: line.sorter.status()[0].state == "safe", 5, "the safe state")
        line.sorter.on_decision(part_of("reject"))
        seen = len(gate.writes)
        gate.away = False
        line.healthy()
        after = [(write.point, write.value) for _, write in gate.writes[seen:] if write.point == "reject"]
        assert after[:2] == [("reject", 1), ("reject", 0)]
        assert line.counted("gate", "held") == 1


def test_nothing_is_fired_while_the_line_is_held(tmp_path: Path) -> None:
    """With no patience at all: parts that come due after a lost write are held, and the level stands."""
    twins = Twins()
    with running_line(tmp_path, outputs(gate={"failsafe_after_ms": 0, "recover_ms": 500}), twins) as line:
        line.healthy()
        gate = twins.made["gate"]
        gate.away = True
        wait_until(lambda: line.sorter.status()[0].state == "safe", 5, "the safe state")
        gate.away = False
        wait_until(lambda: gate.connects == 2 and gate.levels["failsafe"] == 1, 5, "the connection")
        line.sorter.on_decision(part_of("reject"))
        wait_until(lambda: line.counted("gate", "held") == 1, 5, "the part to be held")
        assert gate.levels["reject"] == 1
        assert line.counted("gate", "fired") == 0
        line.healthy()


def test_an_adapter_that_breaks_is_told_and_tried_again(tmp_path: Path) -> None:
    """An error nobody foresaw costs the connection and not the thread."""

    class Broken(MemoryOutput):
        breaks = False

        def write(self, write: Write) -> None:
            if self.breaks:
                raise KeyError(write.point)
            super().write(write)

    broken = Broken()
    with running_line(tmp_path, outputs(gate={}), lambda _: broken) as line:
        line.healthy()
        broken.breaks = True
        wait_until(lambda: line.events.count("output.failed") > 0, 5, "the failure to be told")
        wait_until(lambda: line.sorter.status()[0].state == "safe", 5, "the safe state")
        broken.breaks = False
        line.healthy()


def test_the_heartbeat_toggles(tmp_path: Path) -> None:
    """It changes at least four times a second, in the safe state too."""
    twins = Twins()
    with running_line(tmp_path, outputs(gate={"heartbeat_ms": 100}), twins) as line:
        line.signs.hang()
        gate = twins.made.get("gate")
        assert gate is not None
        wait_until(lambda: len(gate.of("heartbeat", 0)) + len(gate.of("heartbeat")) >= 8, 5, "eight beats")
        beats = [write.value for _, write in gate.writes if write.point == "heartbeat"]
        assert all(one != other for one, other in zip(beats, beats[1:], strict=False))


@pytest.mark.parametrize(("at_stop", "level"), [("failsafe", 1), ("rest", 0)])
def test_a_stopped_agent_leaves_the_output_as_configured(tmp_path: Path, at_stop: str, level: int) -> None:
    """Stopping in good order is told to the line as well."""
    twins = Twins()
    with running_line(tmp_path, outputs(gate={"at_stop": at_stop}), twins) as line:
        line.healthy()
    assert twins.made["gate"].levels["reject"] == level


def test_a_full_queue_is_counted(tmp_path: Path) -> None:
    """Parts that nobody takes do not pile up, and are told as missed."""
    line = Line(tmp_path, outputs(gate={"queue_parts": 2}), Twins())
    for _ in range(5):
        line.sorter.on_decision(part_of("reject"))
    assert line.counted("gate", "missed") == 3


def test_no_outputs_cost_nothing(tmp_path: Path) -> None:
    """The default has no output, and the sorter then does nothing."""
    with running_line(tmp_path, ()) as line:
        line.sorter.on_decision(part_of("reject"))
        assert line.sorter.status() == ()


def test_parts_that_nobody_inspected_are_rejected_until_they_have_passed(tmp_path: Path) -> None:
    """After a camera fault `reject_all` lasts for the way to the ejector, however short the recovery is."""
    twins = Twins()
    with running_line(tmp_path, outputs(gate={"travel_ms": 800}), twins) as line:
        line.healthy()
        gate = twins.made["gate"]
        line.events.set_problem("camera.stalled", "no frame")
        wait_until(lambda: gate.levels["failsafe"] == 1, 5, "the safe state")
        over = time.monotonic()
        line.events.clear_problem("camera.stalled")
        wait_until(lambda: gate.levels["failsafe"] == 0, 10, "the end of the safe state")
        # A little less than the way: the worker may have looked just before the fault was over.
        assert gate.of("reject", 0)[-1][0] >= over + 0.5


def test_an_output_without_travel_acts_on_what_is_decided_later_than_it_was_seen(tmp_path: Path) -> None:
    """A lamp or a broker at the default travel of 0 hears of every part, however slow the model is."""
    twins = Twins()
    with running_line(tmp_path, outputs(lamp={"late_ok_ms": 20}), twins) as line:
        line.healthy()
        line.sorter.on_decision(part_of("reject", age_s=0.4))
        wait_until(lambda: line.counted("lamp", "fired") == 1, 5, "the pulse")
        assert line.counted("lamp", "missed") == 0
        assert line.sorter.status()[0].late_p50_ms >= 400.0


def test_a_silent_camera_makes_the_line_safe_before_its_own_timeout(tmp_path: Path) -> None:
    """Between two frames, and before the first one, the line does not rely on a camera that gives none."""
    twins, silent = Twins(), [10.0]
    line = Line(tmp_path, outputs(gate={"failsafe": "stop_line"}), twins, silent_s=lambda: silent[0])
    line.sorter.start()
    try:
        problems = line.events.problems
        wait_until(lambda: "no frame" in problems().get("output.failsafe.gate", ""), 5, "the reason")
        silent[0] = 0.1
        line.healthy()
        silent[0] = 0.71
        wait_until(lambda: twins.made["gate"].levels["stop"] == 1, 5, "the line to be stopped")
    finally:
        line.sorter.stop(3.0)


def test_rejects_that_go_by_are_a_problem_that_stands(tmp_path: Path) -> None:
    """Late or crowded out: a counter alone is seen too late; an accepted part without a pulse is none."""
    twins = Twins()
    with running_line(tmp_path, outputs(gate={"travel_ms": 10, "late_ok_ms": 5}), twins) as line:
        line.healthy()
        line.sorter.on_decision(part_of("accept", age_s=1.0))
        wait_until(lambda: line.counted("gate", "missed") == 1, 5, "the accepted part")
        assert "output.missed.gate" not in line.events.problems()
        line.sorter.on_decision(part_of("reject", age_s=1.0))
        wait_until(lambda: "output.missed.gate" in line.events.problems(), 5, "the problem")
        assert "travel_ms" in line.events.problems()["output.missed.gate"]


def test_a_reject_that_passes_because_all_do_is_told(tmp_path: Path) -> None:
    """In `pass_all` nothing stands in for the verdict, so the part is named; in `reject_all` the level does."""
    twins = Twins()
    both = outputs(free={"failsafe": "pass_all"}, gate={})
    with running_line(tmp_path, both, twins) as line:
        line.healthy()
        line.events.set_problem("camera.stalled", "no frame")
        wait_until(lambda: all(one.state == "safe" for one in line.sorter.status()), 5, "the safe state")
        line.sorter.on_decision(part_of("reject"))
        wait_until(lambda: line.counted("free", "held") + line.counted("gate", "held") == 2, 5, "both")
        wait_until(lambda: line.events.count("output.held") == 1, 5, "the one that is told")
