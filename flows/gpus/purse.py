"""Read from the lease book what was spent, and whether one more machine may be paid for."""

from __future__ import annotations

from flows.gpus.leases import LeaseBook, Terms
from flows.gpus.money import (
    Budget,
    Spending,
    Verdict,
    begin_of_month,
    judge_launch,
    reserved,
    spending,
)


def month_so_far(book: LeaseBook) -> Spending:
    """Return what all runs have cost this month; of a lease that began earlier only its part of it."""
    now = book.now()
    begin = begin_of_month(now)
    return spending(book.since(begin), begin, now)


def launch_verdict(book: LeaseBook, budget: Budget, terms: Terms) -> Verdict:
    """Tell whether a machine may be rented on these terms without touching what others may still need."""
    if terms.price == 0:
        return Verdict("fine")
    others = [lease for lease in book.live() if lease.run_id != terms.run_id]
    return judge_launch(budget, month_so_far(book), reserved(others, book.now()))
