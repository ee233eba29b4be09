"""Decide what a guard does, and read what machines are told."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from fleet_contracts.base import utc_now
from fleet_contracts.renting import LEASE, POWER_OFF, UNTIL, WORK
from tests.trainer.store import RunStore
from trainer.backend_job import BackendEvent
from trainer.beginning import Beginning
from trainer.errors import ClaimEnded, OrdersRefused, TransferFailed
from trainer.rented.claim import Asking, fetch_ticket
from trainer.rented.clock import ClockNote, read_note, write_note
from trainer.rented.farewell import TAIL_BYTES, tail_of
from trainer.rented.orders import Handover, pack, read_orders, unpack
from trainer.rented.power import power_off
from trainer.rented.rules import Standing, decide
from trainer.wire import MemoryWire

ENVIRONMENT = {LEASE: "lease-1", UNTIL: "2026-11-21T20:00:00+00:00", WORK: "/data", POWER_OFF: "halt"}


@pytest.mark.parametrize(
    ("seen", "move"),
    [
        (Standing(5, 100, ended=False, asked=False), "wait"),
        (Standing(5, 100, ended=True, asked=False), "end"),
        (Standing(5, 0.0, ended=False, asked=False), "warn"),
        (Standing(5, 100, ended=False, asked=True), "warn"),
        (Standing(1199, None, ended=False, asked=False), "wait"),
        (Standing(1200, None, ended=False, asked=False), "warn"),
        (Standing(9999, 100, ended=False, asked=False), "wait"),
        (Standing(5, -9, ended=False, asked=True, warned_for=34), "wait"),
        (Standing(5, -9, ended=False, asked=True, warned_for=35), "kill"),
        (Standing(5, -9, ended=True, asked=True, warned_for=35), "end"),
    ],
)
def test_the_guard_decides(seen: Standing, move: str) -> None:
    """A lease that is over, a request and a silent store are warned of first and enforced after."""
    assert decide(seen).move == move


def test_time_left_goes_by_the_stores_clock(tmp_path: Path) -> None:
    """What is left is counted from the store's moment on, evenly; a note survives its file."""
    now = utc_now()
    write_note(tmp_path / "clock.json", ClockNote(now, 1000.0))
    note = read_note(tmp_path / "clock.json")
    assert note is not None
    assert note.seconds_left(now + timedelta(seconds=60), 1015.0) == 45.0
    assert read_note(tmp_path / "none.json") is None


def test_orders_are_read_and_handed_over() -> None:
    """The trainer gets what the guard read; text forms show neither claim nor command."""
    orders = read_orders(ENVIRONMENT)
    told = Handover(orders, "https://store/ticket?secret", 7, 1.5)
    assert unpack(pack(told)) == told
    assert orders.work == Path("/data")
    assert "halt" not in repr(told)
    assert "secret" not in repr(told)


@pytest.mark.parametrize(
    "changes", [{LEASE: ""}, {LEASE: "../up"}, {UNTIL: ""}, {UNTIL: "soon"}, {UNTIL: "2026-11-21T20:00:00"}]
)
def test_orders_that_make_no_sense_are_refused(changes: dict[str, str]) -> None:
    """A lease without a name and a deadline without a time zone are no orders."""
    with pytest.raises(OrdersRefused, match="environment"):
        read_orders({**ENVIRONMENT, **changes})


def test_a_beginning_is_told_once() -> None:
    """Parts add up to the whole; the first step began an epoch's length before its event."""
    times = iter([2.0, 3.5, 10.0, 14.0, 30.0])
    beginning = Beginning(1.0, "lease-1", lambda: next(times))
    beginning.mark("boot")
    beginning.mark("claim")
    beginning.mark("data")
    assert beginning.heard(BackendEvent("started")) is None
    told = beginning.heard(BackendEvent("epoch", 1, {"seconds": 12.0}))
    assert told is not None
    assert told["kind"] == "start"
    assert told["evidence"] == {
        "boot": 1.0, "claim": 1.5, "data": 6.5, "child": 4.0, "first_step": 4.0, "seconds": 17.0
    }  # fmt: skip
    assert beginning.heard(BackendEvent("epoch", 2, {"seconds": 12.0})) is None
    assert Beginning().heard(BackendEvent("epoch", 1, {"seconds": 1.0})) is None


def test_the_end_of_a_log_holds_no_signature(tmp_path: Path) -> None:
    """Whole lines from the end, and of any URL nothing behind its question mark."""
    log = tmp_path / "log"
    log.write_text("x" * TAIL_BYTES + "\nGET https://store/b/o?X-Amz-Signature=abc HTTP\nlast\n")
    assert tail_of(log) == b"GET https://store/b/o?... HTTP\nlast\n"


def test_a_claim_gives_the_ticket_and_the_stores_time() -> None:
    """The Date header is the store's clock; where there is none, this machine's own serves and is marked."""
    store, heard = RunStore(b"weights"), list[ClockNote]()
    store.wire.date = format_datetime(utc_now() - timedelta(days=400), usegmt=True)
    asking = Asking(store.wire, heard.append)
    assert fetch_ticket(store.url("ticket.json"), asking).run_id == store.run_id
    assert abs((utc_now() - heard[0].at).days - 400) <= 1
    store.wire.date = ""
    fetch_ticket(store.url("ticket.json"), asking)
    assert [one.own for one in heard] == [False, True]


@pytest.mark.parametrize("content", [b"", b"{}", b"<html>sign in</html>"])
def test_what_is_no_ticket_ends_the_claim(content: bytes) -> None:
    """An empty answer, another document or a page of somebody's proxy: a clear end, without the claim in it."""
    url = "https://store/ticket?X-Amz-Signature=secret"
    with pytest.raises(ClaimEnded) as caught:
        fetch_ticket(url, Asking(MemoryWire({url: content}), lambda _note: None))
    assert "secret" not in str(caught.value)
    with pytest.raises(ClaimEnded, match="none was given"):
        fetch_ticket("", Asking(MemoryWire(), lambda _note: None))


def test_a_store_that_stays_away_is_not_waited_for_for_ever() -> None:
    """Pauses grow and the patience ends; the next attempt may be another machine's."""
    pauses: list[float] = []
    wire = MemoryWire(away=True)
    with pytest.raises(TransferFailed, match="the store to answer within"):
        fetch_ticket("https://store/t", Asking(wire, lambda _note: None, pauses.append, patience=3.0))
    assert pauses == [0.5, 1.0, 2.0]
    assert len(wire.log) == 4


def test_a_machine_without_a_command_ends_by_itself() -> None:
    """Where the seller ends a container with its first process there is nothing to run."""
    assert power_off("", {})
    assert not power_off("exit 3", {}, pause=0.0)


def test_an_epoch_that_another_machine_trained_begins_nothing_here() -> None:
    """A child that goes on tells its last epoch again; the first step is that of the first epoch trained here."""
    times = iter((5.0, 6.0, 20.0))
    beginning = Beginning(1.0, "lease-1", lambda: next(times))
    assert beginning.heard(BackendEvent("started", 0, {})) is None
    assert beginning.heard(BackendEvent("epoch", 8, {"seconds": 12.0})) is None
    told = beginning.heard(BackendEvent("epoch", 9, {"seconds": 12.0}))
    assert told is not None
    assert told["evidence"] == {"child": 4.0, "first_step": 3.0, "seconds": 7.0}
