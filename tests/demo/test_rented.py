"""What the demo tells of renting: losses, savings and beginnings are worked out from what was noted."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import typer

from demo.cli import demo
from demo.errors import DemoError
from demo.loop.beginning import asked_before
from demo.loop.cloud import NAME, found_installation
from demo.loop.renting import beginning_of
from demo.loop.settings import SPOT_CLOUD
from demo.report import overhead, renting
from demo.report.overhead import Moments, parts_of
from demo.report.rented import Rented, Span, first_step_of
from fleet_contracts.training import RunEvent, RunEventKind
from flows.settings import load_settings, write_settings

BEGAN = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
START = {
    "boot": 1.0,
    "claim": 0.5,
    "check": 0.25,
    "data": 2.0,
    "child": 4.0,
    "first_step": 2.25,
    "seconds": 10.0,
}


def at(seconds: float) -> datetime:
    """Return a moment so many seconds after the first order."""
    return BEGAN + timedelta(seconds=seconds)


def event(
    number: int, kind: RunEventKind, epoch: int, seconds: float, data: dict[str, object] | None = None
) -> RunEvent:
    """Return an event of the run."""
    return RunEvent.model_validate(
        {"task_id": "boards", "run_id": "run-0123456789abcdef", "number": number, "at": at(seconds), "kind": kind,
         "epoch": epoch, "data": data or {}}
    )  # fmt: skip


def machine(region: str, begin: float, end: float, *, price: float, why: str) -> Span:
    """Return a machine that boots for 2 s and takes its first step 10 s later."""
    hours = (end - begin) / 3600
    return Span(
        region=region, spot=True, price=price, ordered_at=at(begin), booted_at=at(begin + 2), ended_at=at(end), why=why,
        cost=price * hours * 1.1, bill=price * hours, first_step_at=at(begin + 12), began=START,
    )  # fmt: skip


FIRST = machine("east", 0, 47, price=0.16, why="taken away")
SECOND = machine("west", 50, 100, price=0.21, why="its command ended with 0")
EVENTS = (
    event(0, "started", 0, 8), event(1, "epoch", 1, 22), event(2, "epoch", 2, 32), event(3, "epoch", 3, 42),
    event(4, "resumed", 3, 60), event(5, "epoch", 4, 72), event(6, "epoch", 5, 82), event(7, "finished", 5, 99),
)  # fmt: skip
RENTED = Rented((FIRST, SECOND), EVENTS, 0.53)


def test_lost_work_is_what_came_after_the_checkpoint() -> None:
    """Taken away 5 s into an epoch of 10 s, half an epoch is lost, and the next goes on from the third."""
    (loss,) = RENTED.losses()
    assert (loss.resumed_from, loss.seconds, loss.epochs) == (3, 5.0, pytest.approx(0.5))


def test_going_back_further_loses_more() -> None:
    """Where the newest checkpoint had not come through, the epoch before it is lost as well."""
    back = tuple(one.model_copy(update={"epoch": 2}) if one.kind == "resumed" else one for one in EVENTS)
    (loss,) = replace(RENTED, events=back).losses()
    assert (loss.seconds, loss.epochs) == (15.0, pytest.approx(1.5))


def test_first_step_of_a_machine_that_goes_on() -> None:
    """The first machine's is what it told; one that goes on begins when it says that it resumed."""
    assert first_step_of(at(0), at(12), EVENTS) == at(12)
    assert first_step_of(at(50), at(53), EVENTS) == at(60)
    assert first_step_of(at(101), None, EVENTS) is None


def test_a_machine_that_never_trained_lost_no_work() -> None:
    """What is lost then is its time alone."""
    idle = replace(FIRST, ended_at=at(5), first_step_at=None, began=None)
    rented = Rented((idle, SECOND), tuple(one for one in EVENTS if one.at > at(50)), 0.53)
    assert rented.losses() == ()
    assert rented.steady_seconds() == pytest.approx(5 + 50 - 12)


def test_saved_is_held_against_one_machine_without_a_break() -> None:
    """On demand neither lost work nor a second start is paid: 47 + 50 - 5 - 12 = 80 seconds."""
    assert RENTED.steady_seconds() == pytest.approx(80.0)
    assert RENTED.steady_cost() == pytest.approx(0.53 * 80 / 3600)
    assert RENTED.cost == pytest.approx(1.1 * RENTED.bill)
    assert RENTED.saved() == pytest.approx(1 - RENTED.cost / RENTED.steady_cost())


def test_tables_and_figures_say_the_same(tmp_path: Path) -> None:
    """Every machine has its row, every formula its words, and the picture is one."""
    figures = renting.figures_of(RENTED)
    machines, money, losses = renting.tables_of(RENTED, 5, 5)
    assert [row[0] for row in machines.rows] == ["east, spot", "west, spot"]
    assert machines.rows[0][3] == "12.0 s"
    assert "1 - cost / always on demand" in money.rows[-1][0]
    assert money.rows[-1][1] == f"{RENTED.saved():.1%}"
    assert losses.rows[0] == ("machines taken away", "1")
    assert ("epochs in the run's record, of those planned", "5 of 5") in losses.rows
    assert (figures["rent.demo_preemptions"], figures["rent.demo_lost_epochs"]) == (1, 0.5)
    assert "rent.overhead_s" not in figures
    assert cv2.imread(str(renting.draw(RENTED, tmp_path / "machines.png"))) is not None


def test_overhead_is_what_neither_provider_nor_data_took() -> None:
    """Every second between threshold and first step is in one part, and each part is somebody's."""
    moments = Moments(*(at(seconds) for seconds in (0, 3, 8, 10, 10.5, 11, 11.5, 14)))
    parts = parts_of(moments, START)
    assert sum(one.seconds for one in parts) == pytest.approx(24.0)
    assert overhead.overhead(parts) == pytest.approx(24.0 - 2.5 - 2.0)
    assert overhead.figures_of(parts)["rent.overhead_s"] == 19.5
    assert overhead.table_of(parts).rows[-1][-1] == "19.5 s"


def test_beginning_is_the_leases_own() -> None:
    """A machine that goes on with a run tells its own start; that of another lease is not taken for it."""
    told = event(9, "watch", 1, 22, {"kind": "start", "lease": "lease-b", "evidence": START})
    assert beginning_of("lease-b", (*EVENTS, told)) == START
    assert beginning_of("lease-a", (*EVENTS, told)) is None


def test_request_that_grew_is_one() -> None:
    """A count that grows while a run is asked for does not make the threshold later than it was crossed."""
    rows = [SimpleNamespace(asked=asked, decided_at=at(second))
            for second, asked in enumerate((False, True, True, False, True, True, True))]  # fmt: skip
    assert asked_before(rows, at(5.5)) == at(4)
    assert asked_before(rows, at(2.5)) == at(1)
    assert asked_before(rows, at(0.5)) is None


def test_real_images_are_trained_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The simulated cloud belongs to the simulated line; asked for with images it is refused in words."""
    with pytest.raises(typer.Exit) as caught:
        demo(images=tmp_path, model=tmp_path / "base.pt", gpu="simulated")
    assert caught.value.exit_code == 2
    assert "--gpu with the simulated line" in capsys.readouterr().out


def test_folder_is_of_one_way_to_train(tmp_path: Path) -> None:
    """A new folder gets its cloud before the services start; an old one keeps what it began with."""
    found_installation(tmp_path / "rented", SPOT_CLOUD)
    settings = load_settings(tmp_path / "rented")
    assert (settings.providers[NAME], settings.train_here) == (SPOT_CLOUD, False)
    found_installation(tmp_path / "rented", SPOT_CLOUD)
    with pytest.raises(
        DemoError, match="expected a demo on a simulated cloud, got a demo that trains on this"
    ):
        found_installation(tmp_path / "rented", None)
    found_installation(tmp_path / "here", None)
    assert not (tmp_path / "here").exists()
    write_settings(tmp_path / "here", settings.model_copy(update={"providers": {}}))
    with pytest.raises(DemoError, match="another --folder"):
        found_installation(tmp_path / "here", SPOT_CLOUD)
