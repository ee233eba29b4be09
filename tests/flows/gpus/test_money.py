"""Count money as a bill would: by month, by what is reserved for others, and with prices nobody knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fleet_contracts.training import GpuOffer, Lease
from flows.context import Context
from flows.database import Database
from flows.gpus.bill import bill_of
from flows.gpus.errors import LaunchRefused
from flows.gpus.guarding import Guard
from flows.gpus.leases import LeaseBook, Terms
from flows.gpus.memory import MemoryProvider
from flows.gpus.money import (
    Budget,
    Spending,
    begin_of_month,
    cost_of,
    cost_since,
    judge_budget,
    judge_launch,
    reserved,
    spending,
)  # fmt: skip
from flows.gpus.purse import launch_verdict, month_so_far
from flows.settings import MoneySettings

NOVEMBER = datetime(2026, 11, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def lease(
    *, began: datetime | None, hours: float = 2.0, ended: datetime | None = None, price: float | None = 1.0,
    spot: bool = False,
) -> Lease:  # fmt: skip
    """Return a lease whose machine was asked for at a moment, or never."""
    offer = GpuOffer(
        provider="cloud", offer_id="a", gpu="T4", gpu_count=1, gpu_memory_mib=1, priced_at=NOVEMBER,
        on_demand_price=None if price is None else 3.0,
    )  # fmt: skip
    recorded = began or NOVEMBER
    return Lease(
        task_id="plates", lease_id="lease-0011223344556677", run_id="run-0123456789abcdef", provider="cloud", offer=offer,
        price_cap=0.0, deadline=recorded + hours * HOUR, state="ended" if ended else "launched", machine="m",
        recorded_at=recorded, ended_at=ended, price=price, asked_at=began, launched_at=began, spot=spot,
    )  # fmt: skip


def test_a_month_counts_its_own_part_of_a_lease() -> None:
    """Three of four hours fell into the month before; what ended before the month costs it nothing."""
    over = lease(began=NOVEMBER - 3 * HOUR, ended=NOVEMBER + HOUR, price=2.0)
    assert cost_of(over, NOVEMBER + 5 * HOUR) == pytest.approx(8.0)
    assert cost_since(over, NOVEMBER, NOVEMBER + 5 * HOUR) == pytest.approx(2.0)
    settled = over.model_copy(update={"cost": 10.0})
    assert cost_since(settled, NOVEMBER, NOVEMBER + 5 * HOUR) == pytest.approx(2.5)
    before = lease(began=NOVEMBER - 3 * HOUR, ended=NOVEMBER - HOUR)
    assert cost_since(before, NOVEMBER, NOVEMBER + HOUR) == 0.0
    inside = lease(began=NOVEMBER + HOUR, ended=NOVEMBER + 2 * HOUR)
    assert cost_since(inside, NOVEMBER, NOVEMBER + 5 * HOUR) == pytest.approx(1.0)
    running = lease(began=NOVEMBER - HOUR)
    assert cost_since(running, NOVEMBER, NOVEMBER + HOUR / 2) == pytest.approx(0.5)


def test_unknown_prices_are_counted_as_such() -> None:
    """They are in no sum, and the sum says how many it lacks; a lease nobody asked under costs nothing."""
    leases = [lease(began=NOVEMBER), lease(began=NOVEMBER, price=None), lease(began=None, price=None)]
    never = leases[2].model_copy(update={"machine": "", "state": "recorded"})
    assert spending([*leases[:2], never], NOVEMBER, NOVEMBER + HOUR) == Spending(pytest.approx(1.0), 1)
    assert reserved(leases[1:2], NOVEMBER) == 0.0


def test_what_may_still_be_spent_is_reserved() -> None:
    """A machine that runs may cost until its deadline; one that ended or was never asked for may not."""
    now = NOVEMBER + HOUR
    running, ended = lease(began=NOVEMBER, hours=5, price=2.0), lease(began=NOVEMBER, ended=now)
    never = lease(began=None).model_copy(update={"machine": "", "state": "recorded"})
    late = lease(began=NOVEMBER, hours=0.5)
    assert reserved([running, ended, never, late], now) == pytest.approx(8.0)


def test_no_machine_is_rented_with_what_others_may_need() -> None:
    """Spent and reserved together reach the bound: wait; without a bound nothing is held back."""
    budget = Budget(per_month=10.0)
    assert judge_launch(budget, Spending(6.0), 3.9).state == "fine"
    held = judge_launch(budget, Spending(6.0), 4.0)
    assert held.state == "stop"
    assert "$6.00 of $10.00" in held.why
    assert "$4.00 more" in held.why
    assert judge_launch(Budget(), Spending(1e6), 1e6).state == "fine"


def test_warning_and_stop_come_at_their_shares() -> None:
    """Eight tenths warn, the whole stops, for a run and for the month."""
    budget = Budget(per_run=10.0, per_month=100.0)
    assert judge_budget(budget, 7.99, 79.9).state == "fine"
    assert judge_budget(budget, 8.0, 0.0).state == "warn"
    assert judge_budget(budget, 0.0, 80.0).state == "warn"
    assert judge_budget(budget, 10.0, 0.0).state == "stop"
    assert judge_budget(budget, 0.0, 100.0).state == "stop"
    assert judge_budget(Budget(per_run=10.0, stop_share=0.5), 5.0, 0.0).state == "stop"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[LeaseBook]:
    """Return a lease book on the second of November, at noon."""
    database = Database.open(f"sqlite:///{tmp_path / 'test.db'}")
    yield LeaseBook(database, now=lambda: NOVEMBER + 36 * HOUR)
    database.close()


def rented(book: LeaseBook, run_id: str, began: datetime, ended: datetime | None = None) -> Terms:
    """Put a lease at a dollar an hour into the book, as if at another time."""
    now = book.now
    offer = GpuOffer(provider="cloud", offer_id="a", gpu="T4", gpu_count=1, gpu_memory_mib=1, priced_at=began)
    terms = Terms("plates", run_id, offer, 0.0, began + 48 * HOUR, price=1.0)
    book.now = lambda: began
    made = book.record(terms)
    book.note_asked(made.lease_id)
    book.note_launched(made.lease_id, f"m-{run_id}")
    if ended is not None:
        book.now = lambda: ended
        book.end(made.lease_id, "done")
    book.now = now
    return terms


def test_the_books_month_holds_what_began_before_it(book: LeaseBook) -> None:
    """A lease of October that ended in November costs November its part; one that ended in October nothing."""
    rented(book, "run-0000000000000001", NOVEMBER - 4 * HOUR, NOVEMBER + 2 * HOUR)
    rented(book, "run-0000000000000002", NOVEMBER - 4 * HOUR, NOVEMBER - 2 * HOUR)
    rented(book, "run-0000000000000003", NOVEMBER + 30 * HOUR)
    assert begin_of_month(book.now()) == NOVEMBER
    assert month_so_far(book).dollars == pytest.approx(2.0 + 6.0)


def test_a_runs_own_machine_is_not_held_against_it(book: LeaseBook) -> None:
    """What others may still cost holds a launch back; a free one is never held back."""
    mine = rented(book, "run-0000000000000003", NOVEMBER + 30 * HOUR)
    other = Terms("plates", "run-0000000000000004", mine.offer, 0.0, mine.deadline, price=1.0)
    budget = Budget(per_month=40.0)
    assert launch_verdict(book, budget, mine).state == "fine"
    assert launch_verdict(book, budget, other).state == "stop"
    free = Terms("plates", "run-0000000000000004", mine.offer, 0.0, mine.deadline, price=0.0)
    assert launch_verdict(book, budget, free).state == "fine"


def test_a_launch_is_held_back_by_what_others_reserve(ctx: Context) -> None:
    """Before any provider is asked, and with what to do; a run's own machine holds it not."""
    ready = replace(ctx, settings=ctx.settings.model_copy(update={"money": MoneySettings(per_month=40.0)}))
    book = LeaseBook(ctx.database, now=lambda: NOVEMBER + 36 * HOUR)
    mine = rented(book, "run-0000000000000003", NOVEMBER + 30 * HOUR)
    other = Terms("plates", "run-0000000000000004", mine.offer, 0.0, mine.deadline, price=1.0)
    provider = MemoryProvider(name="cloud")
    with pytest.raises(LaunchRefused, match=r"may cost \$42\.00 more"):
        Guard(ready, book)(provider, other)
    Guard(ready, book)(provider, mine)
    Guard(ctx, book)(provider, other)


def test_a_bill_says_what_it_knows() -> None:
    """So far and at most while machines run, the sum in the end; what has no price is named."""
    now = NOVEMBER + HOUR
    leases = [
        lease(began=NOVEMBER, ended=now, spot=True),
        lease(began=NOVEMBER, hours=3.0, price=2.0),
        lease(began=NOVEMBER, price=None, ended=now),
    ]
    bill = bill_of(leases, now)
    assert (bill.dollars, bill.at_most, bill.unpriced, bill.is_final) == (3.0, 7.0, 1, False)
    assert bill.line(10.0) == "$3.00 so far, at most $7.00, of $10.00 for this run; 1 leases of unknown price"
    assert [row["$"] for row in bill.rows] == ["1.0000", "2.0000", "unknown"]
    assert [row["kind"] for row in bill.rows] == ["spot", "on demand", "on demand"]
    assert bill_of(leases[:1], now).line() == "$1.00 in the end"
