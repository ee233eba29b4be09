"""Check that no machine exists without a lease, whatever crashes in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.database import Database
from flows.database.schema import RunRow
from flows.gpus.base import Machine, MachineStatus
from flows.gpus.errors import LaunchRefused, LeaseEnded, ProviderAway
from flows.gpus.leases import LeaseBook, Terms, give_back, rent
from flows.gpus.memory import MemoryProvider
from flows.gpus.reaper import LAUNCH_GRACE, Sentence, judge, reap

TICKET = Path("ticket.json")
RUN = "run-0123456789abcdef"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[LeaseBook]:
    """Return the lease book of a fresh database."""
    database = Database.open(f"sqlite:///{tmp_path / 'test.db'}")
    yield LeaseBook(database)
    database.close()


def terms(run_id: str = RUN, hours: float = 1.0) -> Terms:
    """Return terms with the memory provider."""
    offer = GpuOffer(
        provider="memory", offer_id="a", gpu="none", gpu_count=0, gpu_memory_mib=0, priced_at=utc_now()
    )
    return Terms("plates", run_id, offer, 0.0, utc_now() + timedelta(hours=hours))


class DyingProvider(MemoryProvider):
    """Be a provider that the caller does not survive: the machine exists, the answer never arrives."""

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Launch, then die."""
        super().launch(lease, ticket)
        raise KeyboardInterrupt


def test_lease_is_recorded_before_the_launch(book: LeaseBook) -> None:
    """A caller that dies in the launch call leaves a lease behind, never an unowned machine."""
    provider = DyingProvider()
    with pytest.raises(KeyboardInterrupt):
        rent(book, provider, terms(), TICKET)
    (lease,) = book.live(run_id=RUN)
    assert lease.state == "recorded"
    assert [machine.lease_id for machine in provider.list_ours()] == [lease.lease_id]
    assert reap(book, [provider]) == ()


def test_second_attempt_gets_the_same_machine(book: LeaseBook) -> None:
    """Renting again for the same run, before or after the first answer was noted, starts nothing."""
    provider = DyingProvider()
    with pytest.raises(KeyboardInterrupt):
        rent(book, provider, terms(), TICKET)
    provider.__class__ = MemoryProvider
    first = rent(book, provider, terms(), TICKET)
    assert rent(book, provider, terms(), TICKET) == first
    assert first.state == "launched"
    assert len(provider.launches) == 1


def test_ended_machine_is_replaced_under_a_new_lease(book: LeaseBook) -> None:
    """A machine that came to its end is not taken for a running one; its lease says so."""
    provider = MemoryProvider()
    first = rent(book, provider, terms(), TICKET)
    provider.states[first.machine] = MachineStatus("ended")
    second = rent(book, provider, terms(), TICKET)
    assert second.lease_id != first.lease_id
    ended = book.find(first.lease_id)
    assert ended is not None
    assert (ended.state, ended.end_reason) == ("ended", "its machine had ended")
    assert [machine.lease_id for machine in provider.list_ours()] == [second.lease_id]


def test_refused_launch_ends_the_lease(book: LeaseBook) -> None:
    """A provider that says no leaves no live lease behind."""
    provider = MemoryProvider()
    provider.refusal = "sold out"
    with pytest.raises(LaunchRefused, match="sold out"):
        rent(book, provider, terms(), TICKET)
    assert book.live() == ()


def test_silent_provider_keeps_the_lease(book: LeaseBook) -> None:
    """When nobody answers a machine may exist all the same, so the lease lives on."""
    provider = MemoryProvider()
    provider.is_away = True
    with pytest.raises(ProviderAway):
        rent(book, provider, terms(), TICKET)
    assert [lease.state for lease in book.live()] == ["recorded"]
    assert reap(book, [provider]) == ()
    provider.is_away = False
    assert rent(book, provider, terms(), TICKET).state == "launched"


def test_lease_ended_during_launch_takes_its_machine_with_it(book: LeaseBook) -> None:
    """A machine that arrives after its lease ended is terminated at once."""

    class SlowProvider(MemoryProvider):
        def launch(self, lease: Lease, ticket: Path) -> str:
            machine = super().launch(lease, ticket)
            book.end(lease.lease_id, "its deadline passed")
            return machine

    provider = SlowProvider()
    with pytest.raises(LeaseEnded, match="deadline"):
        rent(book, provider, terms(), TICKET)
    assert provider.list_ours() == ()


def test_giving_back_ends_both(book: LeaseBook) -> None:
    """A lease given back has no machine, and a second time keeps the first reason."""
    provider = MemoryProvider()
    lease = rent(book, provider, terms(), TICKET)
    give_back(book, provider, lease, "the run is done")
    give_back(book, provider, lease, "again")
    ended = book.find(lease.lease_id)
    assert ended is not None
    assert ended.end_reason == "the run is done"
    assert provider.list_ours() == ()


def test_giving_back_ends_a_machine_whose_answer_was_lost(book: LeaseBook) -> None:
    """Also where no reaper lives, a launch that nobody heard of does not go on under an ended lease."""
    provider = DyingProvider()
    with pytest.raises(KeyboardInterrupt):
        rent(book, provider, terms(), TICKET)
    (lease,) = book.live(run_id=RUN)
    assert (lease.machine, len(provider.list_ours())) == ("", 1)
    give_back(book, provider, lease, "the run ends")
    assert provider.list_ours() == ()
    assert book.live() == ()


def test_reaper_ends_what_nobody_owns(book: LeaseBook) -> None:
    """A machine without a live lease is ended; one with a live lease is left alone."""
    provider = MemoryProvider()
    lease = rent(book, provider, terms(), TICKET)
    provider.machines["stray"] = Machine("stray", "lease-unknown")
    assert reap(book, [provider]) == (Sentence("stray", "", "no live lease owns it"),)
    assert [machine.machine for machine in provider.list_ours()] == [lease.machine]


def test_reaper_ends_leases_past_their_deadline(book: LeaseBook) -> None:
    """Past the deadline both machine and lease end, though the flow never came back."""
    provider = MemoryProvider()
    lease = rent(book, provider, terms(), TICKET)
    assert reap(book, [provider], now=lease.deadline - timedelta(seconds=1)) == ()
    assert len(reap(book, [provider], now=lease.deadline)) == 1
    assert provider.list_ours() == ()
    assert book.live() == ()


def test_reaper_ends_what_works_for_a_closed_run(book: LeaseBook) -> None:
    """Nobody waits for a closed run: its machine ends at once, not at its deadline; an active run's stays."""
    provider = MemoryProvider()
    mine = rent(book, provider, terms(), TICKET)
    other = rent(book, provider, terms("run-fedcba9876543210"), TICKET)
    for lease, state in ((mine, "failed"), (other, "active")):
        row = RunRow(
            run_id=lease.run_id, task_id="plates", snapshot_id="s", start_kind="origin", start_sha256="0" * 64,
            recipe={}, state=state, attempts=1, flow_run="", reason="", started_at=utc_now(),
            touched_at=utc_now(), ended_at=None,
        )  # fmt: skip
        with book._database.session() as session:
            session.add(row)
    assert reap(book, [provider]) == (Sentence(mine.machine, mine.lease_id, "its run is closed"),)
    assert [machine.machine for machine in provider.list_ours()] == [other.machine]


def test_one_silent_provider_does_not_stop_the_round(book: LeaseBook) -> None:
    """The reaper goes on to the next provider when one does not answer."""
    away, other = MemoryProvider(name="away"), MemoryProvider(name="other")
    away.is_away = True
    other.machines["stray"] = Machine("stray", "lease-unknown")
    assert [one.machine for one in reap(book, [away, other])] == ["stray"]


def test_recorded_lease_has_time_to_get_its_machine() -> None:
    """A lease that never got a machine is ended, but only after any launch call must have returned."""
    one = terms(hours=10)
    lease = Lease(
        task_id="plates", lease_id="l", run_id=RUN, provider="memory", offer=one.offer, price_cap=0.0,
        deadline=one.deadline, state="recorded", recorded_at=utc_now(),
    )  # fmt: skip
    assert judge((), [lease], lease.recorded_at + LAUNCH_GRACE - timedelta(seconds=1)) == ()
    (sentence,) = judge((), [lease], lease.recorded_at + LAUNCH_GRACE)
    assert (sentence.machine, sentence.lease_id) == ("", "l")
    with_machine = [Machine("m", "l")]
    assert judge(with_machine, [lease], lease.recorded_at + LAUNCH_GRACE) == ()
