"""Hold leases and tenant to what costs money twice: late answers, offers that refuse again, silent sellers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.database import Database
from flows.gpus.base import Machine, MachineStatus
from flows.gpus.errors import LeaseEnded, ProviderAway, TokenRefused
from flows.gpus.leases import MACHINE_ENDED, SENDING, LeaseBook, Terms, rent
from flows.gpus.memory import MemoryProvider
from flows.gpus.outlook import Progress
from flows.gpus.reaper import reap
from flows.gpus.shunned import REFUSED_FOR
from tests.flows.gpus.test_tenancy import RUN, machines, seller, tenant_of

TICKET = Path("ticket.json")
SETTLES = timedelta(minutes=2)


class Clock:
    """Be a clock that passes when told to."""

    def __init__(self) -> None:
        self.at = utc_now()

    def __call__(self) -> datetime:
        """Return the present moment."""
        return self.at


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


def again(book: LeaseBook) -> LeaseBook:
    """Return the book as a process opens it that knows nothing of the one before."""
    return LeaseBook(book._database, book.now)


def terms_with(provider: MemoryProvider, clock: Clock) -> Terms:
    """Return terms for the provider's offer."""
    (offer,) = provider.offers()
    return Terms("plates", RUN, offer, 0.0, clock() + timedelta(hours=9), price=offer.on_demand_price)


class Late(MemoryProvider):
    """Be a seller that knows nothing of a machine for as long as it settles; each launch makes one more."""

    def __init__(self, clock: Clock, takes: timedelta = timedelta(0)) -> None:
        super().__init__(*seller("late", 1.0)._offers, name="late")
        self.clock, self.takes, self.elsewhere = clock, takes, True
        self.dies = False
        self.began: dict[str, datetime] = {}

    @property
    def settles(self) -> timedelta:
        """Return how late it is."""
        return SETTLES

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Take the order after a while, and make a machine whatever there is."""
        self.clock.at += self.takes
        machine = f"m-{len(self.launches)}"
        self.launches.append((lease.lease_id, ticket))
        self.machines[machine] = Machine(machine, lease.lease_id)
        self.states[machine] = MachineStatus("running")
        self.began[machine] = self.clock()
        if self.dies:
            raise KeyboardInterrupt
        return machine

    def status(self, machine: str) -> MachineStatus:
        """Say that a new machine is gone."""
        return super().status(machine) if self._shows(machine) else MachineStatus("gone")

    def list_ours(self) -> tuple[Machine, ...]:
        """Leave new machines out."""
        return tuple(one for one in super().list_ours() if self._shows(one.machine))

    def _shows(self, machine: str) -> bool:
        return machine in self.began and self.clock() >= self.began[machine] + SETTLES


def test_a_machine_that_is_not_known_yet_is_not_rented_twice(book: LeaseBook, clock: Clock) -> None:
    """What a lagging seller calls gone right after its launch is taken to run, after a crash as well."""
    late = Late(clock)
    tenant = tenant_of(book, late)
    assert tenant.step(Progress()).kind == "rent"
    assert late.status("m-0").state == "gone", "the fault fires"
    assert tenant.is_running()
    assert tenant_of(again(book), late).is_running()
    rent(again(book), late, terms_with(late, clock), TICKET)
    assert len(late.launches) == 1
    del late.machines["m-0"], late.states["m-0"]
    clock.at += SENDING + SETTLES
    assert not tenant.is_running(), "what stays unknown is gone"


def test_an_order_given_late_in_a_launch_is_waited_for(book: LeaseBook, clock: Clock) -> None:
    """A process that died in the launch may have given its order long after it noted that it would."""
    late = Late(clock, takes=timedelta(seconds=100))
    late.dies = True
    with pytest.raises(KeyboardInterrupt):
        rent(book, late, terms_with(late, clock), TICKET)
    late.dies = False
    clock.at += SETTLES - timedelta(seconds=60)
    with pytest.raises(ProviderAway):
        rent(again(book), late, terms_with(late, clock), TICKET)
    clock.at += timedelta(seconds=60)
    assert rent(again(book), late, terms_with(late, clock), TICKET).machine == "m-0"
    assert len(late.launches) == 1


def test_two_flows_never_rent_from_two_sellers(book: LeaseBook, clock: Clock) -> None:
    """Work pools may lie on two hosts: the second flow waits for what the first one began."""
    one, other = seller("one", 0.5), seller("other", 0.4)
    rent(book, one, terms_with(one, clock), TICKET)
    with pytest.raises(ProviderAway, match="a run without a lease"):
        rent(again(book), other, terms_with(other, clock), TICKET)
    assert len(machines(one, other)) == 1


def test_the_second_machine_of_a_lease_is_ended(book: LeaseBook, clock: Clock) -> None:
    """Of two flows that launch under one lease at once, the later one ends what it got."""
    late = Late(clock)
    lease = book.note_asked(book.record(terms_with(late, clock)).lease_id)
    first = late.launch(lease, TICKET)
    assert book.note_launched(lease.lease_id, first).machine == first
    with pytest.raises(LeaseEnded, match="m-0"):
        book.note_launched(lease.lease_id, late.launch(lease, TICKET))
    assert book.live()[0].machine == first


def test_no_machine_is_given_up_for_an_offer_that_refused(book: LeaseBook, clock: Clock) -> None:
    """A cheap offer that is never to be had costs one refusal, not a cold start every five minutes."""
    cheap, here = seller("cheap", 0.1), seller("here", 2.0)
    cheap.refusal = "sold out"
    asked: list[str] = []
    launch = cheap.launch

    def counted(lease: Lease, ticket: Path) -> str:
        asked.append(lease.lease_id)
        return launch(lease, ticket)

    cheap.launch = counted  # type: ignore[method-assign]
    assert tenant_of(book, cheap, here).step(Progress()).offer == "here/t4/on-demand"
    for _ in range(20):
        clock.at += REFUSED_FOR
        # Also where the flow crashed and another one follows.
        assert tenant_of(book, cheap, here).step(Progress()).kind == "stay"
    assert len(asked) == 1
    assert len(here.launches) == 1
    tenant_of(book, cheap, here).end("it died")
    assert tenant_of(book, cheap, here).step(Progress()).offer.startswith("here/")
    assert len(asked) == 2, "without a machine it is asked again"


def test_on_demand_that_refused_is_taken_for_safety(book: LeaseBook, clock: Clock) -> None:
    """The offer that refused once is what keeps the deadline: for that a spot machine is given up."""
    steady = seller("steady", 1.0, spot=0.1)
    steady.refusal = "none left"
    tenant = tenant_of(book, steady, deadline=clock() + timedelta(minutes=60 + 5 + 2 + 30))
    assert tenant.step(Progress()).kind == "wait"
    steady.refusal = ""
    clock.at += REFUSED_FOR
    assert tenant.step(Progress()).offer == "steady/t4/spot"
    clock.at += timedelta(minutes=25)
    assert tenant.step(Progress()).offer == "steady/t4/on-demand"
    assert len(machines(steady)) == 1


def test_a_market_that_is_away_moves_nobody(book: LeaseBook) -> None:
    """While a machine works, a price list that does not answer is no error of the run's."""
    here = seller("here", 1.0)
    tenant = tenant_of(book, here)
    assert tenant.step(Progress()).kind == "rent"
    offers, fired = here.offers, []

    def away() -> tuple[GpuOffer, ...]:
        fired.append(1)
        raise ProviderAway(expected="prices", got="none", where="here")

    here.offers = away  # type: ignore[method-assign]
    assert tenant.step(Progress()).kind == "stay"
    assert fired
    here.offers = offers  # type: ignore[method-assign]
    assert tenant.is_running()


def test_a_lease_of_an_unknown_provider_is_an_outage(book: LeaseBook) -> None:
    """Taken out of the settings, nobody can end its machine: no other is rented, and it is told."""
    lost, other = seller("lost", 0.1), seller("other", 0.5)
    assert tenant_of(book, lost, other).step(Progress()).offer.startswith("lost/")
    without = tenant_of(book, other)
    for call in (without.is_running, lambda: without.step(Progress()), lambda: without.end("done")):
        with pytest.raises(ProviderAway, match="Set it up again"):
            call()
    assert other.launches == []


def test_one_that_cannot_be_ended_keeps_no_other(book: LeaseBook, clock: Clock) -> None:
    """Two live leases, the first one's seller away: the second one's machine ends all the same."""
    away, there = seller("away", 0.1), seller("there", 0.2)
    rent(book, away, terms_with(away, clock), TICKET)
    (first,) = book.live()
    book.end(first.lease_id, "hidden for a moment")
    clock.at += timedelta(seconds=1)
    rent(book, there, terms_with(there, clock), TICKET)
    _revive(book, first)
    away.is_away = True
    with pytest.raises(ProviderAway):
        tenant_of(book, away, there).end("over")
    assert [lease.provider for lease in book.live()] == ["away"]
    assert there.list_ours() == ()


def _revive(book: LeaseBook, lease: Lease) -> None:
    with book._database.session() as session:
        row = book._row(session, lease.lease_id)
        row.state, row.ended_at, row.end_reason = "launched", None, ""


def test_a_lease_under_which_nothing_was_asked_is_decided_anew(book: LeaseBook, clock: Clock) -> None:
    """A crash between record and launch: the guard is heard, and the best offer is that of now."""
    before, now = seller("before", 1.0), seller("now", 0.1)
    book.record(terms_with(before, clock))
    assert tenant_of(book, before, now).step(Progress()).offer.startswith("now/")
    assert before.launches == []
    assert [lease.provider for lease in book.live()] == ["now"]


def test_a_lease_without_a_deadline_to_keep_ends_in_time_to_come(book: LeaseBook, clock: Clock) -> None:
    """A run without a deadline that is followed for days gets leases the reaper does not end at once."""
    only = seller("only", 1.0)
    tenant = tenant_of(book, only, has_deadline=False)
    clock.at += timedelta(hours=30)
    assert tenant.step(Progress()).kind == "rent"
    (lease,) = book.live()
    assert lease.deadline > clock()


def test_a_lease_that_is_called_off_ends_with_its_reason(book: LeaseBook, clock: Clock) -> None:
    """The reaper ends it at its next round though neither deadline nor run are over."""
    only = seller("only", 1.0)
    tenant = tenant_of(book, only)
    tenant.step(Progress())
    assert reap(book, [only]) == ()
    tenant.call_off("the run delivered its result")
    (sentence,) = reap(book, [only])
    assert sentence.reason == "the run delivered its result"
    assert (only.list_ours(), book.live()) == ((), ())


def test_a_trainer_that_said_its_last_word_has_not_died(book: LeaseBook, clock: Clock) -> None:
    """Only a machine that ended without a word counts against its offer."""
    only = seller("only", 1.0)
    tenant = tenant_of(book, only)
    tenant.step(Progress())
    only.states[machines(only)[0]] = MachineStatus("ended", "exit 0")
    assert not tenant.is_running()
    assert [lease.end_reason for lease in book.of_run(RUN)] == [MACHINE_ENDED]
    tenant.explain("the run delivered its result")
    tenant.explain("something else")
    assert [lease.end_reason for lease in book.of_run(RUN)] == ["the run delivered its result"]


def test_a_token_that_is_refused_keeps_no_other_from_ending(book: LeaseBook) -> None:
    """The error that is raised in the end is the token's."""
    only = seller("only", 1.0)
    tenant = tenant_of(book, only)
    tenant.step(Progress())

    def refuse(machine: str) -> None:
        raise TokenRefused(expected="a token", got=f"none for {machine}", where="only")

    only.terminate = refuse  # type: ignore[method-assign]
    with pytest.raises(TokenRefused):
        tenant.end("over")
    assert len(book.live()) == 1
