"""Leave alone what failed a run, across crashes, and give up no machine for one that would be late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from flows.database import Database
from flows.gpus.base import MachineStatus
from flows.gpus.leases import MACHINE_ENDED, LeaseBook, rent
from flows.gpus.outlook import Progress
from flows.gpus.shunned import UNFIT, doubtful, left_alone
from flows.gpus.spot import Offer, Situation, decide
from tests.flows.gpus.test_renting_faults import TICKET, Clock, terms_with
from tests.flows.gpus.test_tenancy import RUN, machines, seller, tenant_of


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the book."""
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> Iterator[LeaseBook]:
    """Return the lease book of a fresh database."""
    database = Database.open(f"sqlite:///{tmp_path / 'test.db'}")
    yield LeaseBook(database, clock)
    database.close()


def test_a_broken_offer_is_not_rented_forty_times(book: LeaseBook, clock: Clock) -> None:
    """On-demand machines that die at once: after the second the next offer is taken, if it is dearer too."""
    broken, sound = seller("broken", 0.1), seller("sound", 2.0)
    moves: list[str] = []
    for _ in range(3):
        moves.append(tenant_of(book, broken, sound).step(Progress()).offer)
        for machine in machines(broken):
            del broken.machines[machine]
            broken.states[machine] = MachineStatus("ended", "exit 1")
        clock.at += timedelta(seconds=30)
    assert [move.partition("/")[0] for move in moves] == ["broken", "broken", "sound"]


def test_what_a_run_leaves_alone_outlives_the_process(book: LeaseBook, clock: Clock) -> None:
    """Refusals and unfit machines are read from the leases; a spot machine's death is no fault of its offer."""
    only = seller("only", 1.0, spot=0.1)
    for reason, alone in ((f"{UNFIT}: 8 GiB", True), (MACHINE_ENDED, False)):
        lease = rent(book, only, terms_with(only, clock), TICKET)
        only.terminate(lease.machine)
        book.end(lease.lease_id, reason)
        clock.at += timedelta(seconds=1)
        assert ("only/t4/on-demand" in left_alone(book.of_run(RUN)[-1:], clock())) is alone
    clock.at += timedelta(hours=25)
    assert left_alone(book.of_run(RUN), clock()) == frozenset()
    assert doubtful(book.of_run(RUN)) == frozenset()


def test_a_machine_that_will_be_in_time_is_not_given_up_for_one_that_will_not() -> None:
    """Once the moment for on demand has passed, the machine that is further keeps the run."""
    spot, steady = Offer("spot", True, 0.1), Offer("steady", False, 1.0)
    passed = Situation(time_left=20.0, work_saved=30.0, work_here=10.0, cold_start=5.0, epoch=3.0, here="spot",
                       offers=(spot, steady))  # fmt: skip
    assert decide(passed).kind == "stay"
    behind = Situation(time_left=20.0, work_saved=30.0, work_here=30.0, cold_start=5.0, epoch=3.0, here="spot",
                       cold_left=9.0, offers=(spot, steady))  # fmt: skip
    assert decide(behind).offer == "steady"
