"""Hold every adapter to one contract, from launch to terminate, against a simulator of its seller.

A test module gives its adapter and simulator as a `Rig` and takes over every test:

    class TestDstackContract(ProviderContract):
        @pytest.fixture
        def rig(self, tmp_path: Path) -> Iterator[Rig]:
            with running_simulator() as simulator:
                yield DstackRig(tmp_path, simulator)

What a seller does not have (a token, a lagging list, a deadline) its rig names in `lacks`, with the reason;
those tests are skipped and say so. Everything else holds for everybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleet_contracts.training import Lease
from flows.database import Database
from flows.gpus.base import GpuProvider
from flows.gpus.errors import GpuError, LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.leases import LeaseBook, give_back, rent
from flows.gpus.starting import CLAIM, LEASE, OFFER, POWER_OFF, UNTIL
from flows.gpus.tags import tag_of
from tests.flows.gpus.rig import (
    CLAIM_URL,
    INSTALLATION,
    RUN,
    Fault,
    Lack,
    Rig,
    Truth,
    costs,
    offer_of,
    terms,
    write_ticket,
)
from tests.helpers import wait_until

__all__ = [
    "CLAIM_URL", "INSTALLATION", "RUN", "Fault", "Lack", "ProviderContract", "Rig", "Truth", "costs", "offer_of",
    "terms", "write_ticket",
]  # fmt: skip

PATIENCE = 20.0
"""Seconds a real process, server or list may take."""
AWAY: tuple[Fault, ...] = ("rate-limit", "unavailable", "silence", "garbage")
METHODS: dict[str, Callable[[GpuProvider, str], object]] = {
    "standing": lambda provider, _: provider.standing(),
    "offers": lambda provider, _: provider.offers(),
    "status": lambda provider, machine: provider.status(machine),
    "logs": lambda provider, machine: provider.logs(machine),
    "terminate": lambda provider, machine: provider.terminate(machine),
    "list_ours": lambda provider, _: provider.list_ours(),
}


class ProviderContract:
    """Be the tests. A subclass gives the fixture `rig`."""

    @pytest.fixture
    def rig(self) -> Rig:
        """Return the rig; every subclass has its own."""
        raise NotImplementedError

    @pytest.fixture
    def book(self, rig: Rig, tmp_path: Path) -> Iterator[LeaseBook]:
        """Return a lease book that goes by the seller's clock."""
        database = Database.open(f"sqlite:///{tmp_path / 'leases.db'}")
        yield LeaseBook(database, rig.now)
        database.close()

    @pytest.fixture
    def ticket(self, tmp_path: Path) -> Path:
        """Return a file with a ticket whose claim is `CLAIM_URL`."""
        return write_ticket(tmp_path / "ticket.json")

    # --- the way of a machine -----------------------------------------------------------------------------

    def test_from_launch_to_end(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """A machine is rented, listed, runs, is ended, and is then neither listed nor there."""
        provider = rig.provider
        lease = rent(book, _Watched(provider, book), terms(rig), ticket)
        assert lease.machine
        _settle(rig)
        assert [(one.machine, one.lease_id) for one in provider.list_ours()] == [
            (lease.machine, lease.lease_id)
        ]
        assert provider.status(lease.machine).state == "running"
        _end(rig, book, lease)
        assert provider.status(lease.machine).state in ("ended", "gone")
        assert costs(rig) == set()

    def test_same_lease_has_one_machine(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """Renting again for the run finds its machine; where `settles` is zero, so does the bare launch."""
        wanted = terms(rig)
        lease = rent(book, rig.provider, wanted, ticket)
        assert rent(book, rig.provider, wanted, ticket).machine == lease.machine
        if rig.provider.settles == timedelta(0):
            assert rig.provider.launch(lease, ticket) == lease.machine
        assert costs(rig) == {lease.machine}

    def test_two_leases_have_machines_of_their_own(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """A lease that ended gives nothing to the next one of its run: that one gets a machine of its own."""
        first = rent(book, rig.provider, terms(rig), ticket)
        _end(rig, book, first)
        second = rent(book, rig.provider, terms(rig), ticket)
        assert second.lease_id != first.lease_id
        assert costs(rig) == {second.machine}

    def test_terminate_is_patient(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """Ending twice, or what never was, is no error; what never was is gone."""
        provider = rig.provider
        lease = rent(book, provider, terms(rig), ticket)
        for _ in range(2):
            provider.terminate(lease.machine)
            _settle(rig)
        wait_until(lambda: costs(rig) == set(), PATIENCE, "the machine to end")
        unknown = _unknown(lease)
        provider.terminate(unknown)
        assert provider.status(unknown).state == "gone"
        assert provider.logs(unknown) == ""

    def test_program_that_ended(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """A machine whose program ended by itself does not run, and ending it leaves nothing that costs."""
        lease = rent(book, rig.provider, terms(rig), ticket)
        rig.finish(lease.machine)
        _until(rig, lambda: rig.provider.status(lease.machine).state != "running", "the machine to be ended")
        listed = {one.machine for one in rig.provider.list_ours()}
        assert listed >= costs(rig), "whatever still costs is listed"
        _end(rig, book, lease)
        assert costs(rig) == set()

    def test_machine_that_was_taken_away(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """A machine its seller ended does not run, and may be ended by us as well."""
        _need(rig, "taken-away")
        lease = rent(book, rig.provider, terms(rig), ticket)
        rig.take_away(lease.machine)
        _until(rig, lambda: rig.provider.status(lease.machine).state != "running", "the machine to be gone")
        rig.provider.terminate(lease.machine)
        _end(rig, book, lease)
        assert costs(rig) == set()

    def test_deadline_ends_it_without_us(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """Past its lease a machine has ended, though nobody of ours called."""
        _need(rig, "deadline")
        assert rig.provider.traits.ending.kind != "none"
        lease = rent(book, rig.provider, terms(rig, rig.shortest), ticket)
        assert lease.machine in {one.machine for one in rig.truth()}
        rig.advance(rig.shortest + timedelta(seconds=1))
        wait_until(lambda: costs(rig) == set(), PATIENCE, "the machine to end by itself")
        _until(rig, lambda: rig.provider.status(lease.machine).state != "running", "the end to be told")

    def test_logs_hold_what_it_wrote(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """What the program writes can be read."""
        _need(rig, "logs")
        lease = rent(book, rig.provider, terms(rig), ticket)
        rig.says(lease.machine, "epoch 3 of 40")
        _until(rig, lambda: "epoch 3 of 40" in rig.provider.logs(lease.machine), "the line to be readable")

    # --- what a machine is started with -------------------------------------------------------------------

    def test_machine_gets_the_claim_and_nothing_else(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """The program finds its claim, lease and end in its environment, and no secret beside."""
        lease = rent(book, rig.provider, terms(rig), ticket)
        given = rig.environment(lease.machine)
        ours = {name: value for name, value in given.items() if name.startswith("WHETSTONE_")}
        assert ours[CLAIM] == CLAIM_URL
        assert ours[LEASE] == lease.lease_id
        assert datetime.fromisoformat(ours[UNTIL]) == lease.deadline.replace(microsecond=0)
        assert ours[OFFER].split(" ", 4)[4] == lease.offer.gpu
        assert set(ours) <= {CLAIM, LEASE, UNTIL, OFFER, POWER_OFF, "WHETSTONE_WORK"}
        _assert_hidden(str(dict(given)), rig.secrets)

    def test_name_can_be_found_by_hand(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """A person who looks at the seller's pages sees whose machine it is."""
        _need(rig, "shown")
        lease = rent(book, rig.provider, terms(rig), ticket)
        assert tag_of(INSTALLATION, lease.lease_id) in rig.shown()

    def test_secrets_are_seen_nowhere(
        self, rig: Rig, book: LeaseBook, ticket: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No token and no claim is in logs, errors, names, metadata or what the seller logs."""
        caplog.set_level(logging.DEBUG)
        provider = rig.provider
        seen = [repr(provider), str(vars(provider)) if hasattr(provider, "__dict__") else ""]
        lease = rent(book, provider, terms(rig), ticket)
        seen += [provider.logs(lease.machine), str(provider.list_ours()), str(provider.status(lease.machine))]
        seen += [str(provider.standing()), str(provider.offers())]
        for fault in (*AWAY, "wrong-token", "no-capacity"):
            if fault not in rig.lacks:
                seen += _errors_under(rig, fault, lease, ticket)
        _end(rig, book, lease)
        written = "\n".join([*seen, caplog.text, lease.model_dump_json()])
        _assert_hidden(written, (*rig.secrets, CLAIM_URL))
        if "shown" not in rig.lacks:
            _assert_hidden(rig.shown(), (*rig.secrets, CLAIM_URL))

    # --- offers -------------------------------------------------------------------------------------------

    def test_offers_say_where_they_are_from(self, rig: Rig) -> None:
        """Every offer names provider, machine, region, and source and age of its price; no spot is free."""
        offers = rig.provider.offers()
        assert offers
        assert len({one.offer_id for one in offers}) == len(offers)
        for one in offers:
            assert one.provider == rig.provider.name
            assert one.gpu
            assert one.region
            assert one.price_source
            assert rig.now() - timedelta(days=400) < one.priced_at <= rig.now() + timedelta(minutes=1)
            assert one.spot_price is None or one.spot_price > 0.0

    # --- bad weather --------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", AWAY)
    def test_seller_that_does_not_answer_is_away(
        self, rig: Rig, book: LeaseBook, ticket: Path, fault: Fault
    ) -> None:
        """Every call says that the seller is away, and the machine is as it was."""
        _need(rig, fault)
        lease = rent(book, rig.provider, terms(rig), ticket)
        for method, call in METHODS.items():
            if method in rig.quiet:
                continue
            rig.arm(fault)
            with pytest.raises(ProviderAway):
                pytest.fail(f"{method} under {fault} returned {call(rig.provider, lease.machine)!r}")
            assert rig.fired(fault) > 0, method
            rig.calm()
        assert rig.provider.status(lease.machine).state == "running"
        assert costs(rig) == {lease.machine}

    @pytest.mark.parametrize("fault", AWAY)
    def test_launch_into_silence(self, rig: Rig, book: LeaseBook, ticket: Path, fault: Fault) -> None:
        """A launch the seller does not answer keeps its lease; the next one rents one machine, not two."""
        _need(rig, fault)
        wanted = terms(rig)
        rig.arm(fault)
        with pytest.raises(ProviderAway):
            rent(book, rig.provider, wanted, ticket)
        assert rig.fired(fault) > 0
        rig.calm()
        (lease,) = book.live(run_id=RUN)
        _settle(rig)
        again = rent(book, rig.provider, wanted, ticket)
        assert again.lease_id == lease.lease_id
        assert costs(rig) == {again.machine}

    def test_lost_answer_is_found_again(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """A launch whose answer was lost shows in the list after `settles`, and is not paid twice."""
        _need(rig, "lost-answer")
        wanted = terms(rig)
        rig.arm("lost-answer")
        with suppress(ProviderAway):
            rent(book, rig.provider, wanted, ticket)
        assert rig.fired("lost-answer") == 1
        with suppress(ProviderAway):
            rent(book, rig.provider, wanted, ticket)
        assert len(costs(rig)) == 1, "nothing was started again before the list could show it"
        _settle(rig)
        (machine,) = rig.provider.list_ours()
        lease = rent(book, rig.provider, wanted, ticket)
        assert lease.machine == machine.machine
        assert machine.lease_id == lease.lease_id
        assert costs(rig) == {lease.machine}

    def test_list_that_lags_keeps_its_word(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """With the list as late as it gets, a machine shows after `settles` and not only later."""
        _need(rig, "lag")
        assert rig.provider.settles > timedelta(0)
        rig.arm("lag")
        lease = rent(book, rig.provider, terms(rig), ticket)
        assert rig.provider.list_ours() == ()
        assert rig.fired("lag") > 0
        _settle(rig)
        assert [one.machine for one in rig.provider.list_ours()] == [lease.machine]

    def test_no_capacity_is_a_refusal(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """A seller that has none, or will not give one, refuses: the lease ends and nothing costs."""
        _need(rig, "no-capacity")
        wanted = terms(rig)
        rig.arm("no-capacity")
        with pytest.raises(LaunchRefused) as caught:
            rent(book, rig.provider, wanted, ticket)
        assert rig.fired("no-capacity") > 0
        assert caught.value.got
        rig.calm()
        assert book.live(run_id=RUN) == ()
        assert costs(rig) == set()

    # --- tokens -------------------------------------------------------------------------------------------

    def test_wrong_token_is_named(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """A revoked token is told as such, with what to do; with a good one the machine can still be ended."""
        _need(rig, "wrong-token")
        lease = rent(book, rig.provider, terms(rig), ticket)
        for method in ("standing", "status", "terminate", "list_ours"):
            rig.arm("wrong-token")
            with pytest.raises(TokenRefused) as caught:
                pytest.fail(f"{method} returned {METHODS[method](rig.provider, lease.machine)!r}")
            assert rig.fired("wrong-token") > 0, method
            assert caught.value.where, method
            assert caught.value.diagnostics(), method
        assert costs(rig) == {lease.machine}, "the run goes on"
        rig.calm()
        _end(rig, book, lease)
        assert costs(rig) == set()

    def test_launch_with_a_wrong_token(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """A launch with a revoked token starts nothing and keeps its lease for the renewed one."""
        _need(rig, "wrong-token")
        wanted = terms(rig)
        rig.arm("wrong-token")
        with pytest.raises(TokenRefused):
            rent(book, rig.provider, wanted, ticket)
        assert costs(rig) == set()
        rig.calm()
        _settle(rig)
        lease = rent(book, rig.provider, wanted, ticket)
        assert costs(rig) == {lease.machine}

    # --- others' machines ---------------------------------------------------------------------------------

    def test_others_machines_are_left_alone(self, rig: Rig, book: LeaseBook, ticket: Path) -> None:
        """Machines without our name, or with another installation's, are neither listed nor ended."""
        _need(rig, "foreign")
        foreign = set(rig.foreign())
        assert foreign
        assert foreign <= costs(rig)
        assert rig.provider.list_ours() == ()
        lease = rent(book, rig.provider, terms(rig), ticket)
        _settle(rig)
        assert [one.machine for one in rig.provider.list_ours()] == [lease.machine]
        _end(rig, book, lease)
        assert costs(rig) == foreign


class _Watched:
    """Pass calls on to a provider, and see that a launch's lease is on disk and marked as asked for."""

    def __init__(self, inner: GpuProvider, book: LeaseBook) -> None:
        self._inner, self._book = inner, book

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Launch what the book knows."""
        known = self._book.find(lease.lease_id)
        assert known is not None
        assert known.asked_at is not None
        return self._inner.launch(lease, ticket)


def _need(rig: Rig, what: Lack) -> None:
    if what in rig.lacks:
        pytest.skip(f"{rig.provider.name}: {rig.lacks[what]}")


def _settle(rig: Rig) -> None:
    if rig.provider.settles > timedelta(0):
        rig.advance(rig.provider.settles)


def _end(rig: Rig, book: LeaseBook, lease: Lease) -> None:
    """Give a machine back, again and again while its seller still ends it, as everybody above the port does."""

    def ended() -> bool:
        try:
            give_back(book, rig.provider, lease, "the test is done")
        except ProviderAway:
            _settle(rig)
            return False
        return True

    wait_until(ended, PATIENCE, "the machine to end")
    _settle(rig)
    assert lease.machine not in {one.machine for one in rig.provider.list_ours()}


def _until(rig: Rig, holds: Callable[[], bool], what: str) -> None:
    """Wait for what the seller tells some time later: at most two settling times of its clock."""
    for _ in range(2):
        if holds():
            return
        _settle(rig)
    wait_until(holds, PATIENCE, what)


def _unknown(lease: Lease) -> str:
    """Return the name of a machine that never was, written as a real one: its last digits are others."""
    name = lease.machine
    last = "0" * 4 if not name.endswith("0" * 4) else "1" * 4
    return name[:-4] + last


def _errors_under(rig: Rig, fault: Fault, lease: Lease, ticket: Path) -> list[str]:
    """Return the words of every error that the calls raise under a fault."""
    found = []
    other = lease.model_copy(update={"lease_id": "lease-00000000000000ee", "machine": ""})
    calls = {name: call for name, call in METHODS.items() if name != "terminate"}
    rig.arm(fault)
    for name, call in [*calls.items(), ("launch", lambda provider, _: provider.launch(other, ticket))]:
        try:
            call(rig.provider, lease.machine)
        except GpuError as error:
            found.append(
                f"{name}: {error!r} {error} {error.diagnostics()} {error.__cause__!r} {error.__context__!r}"
            )
    rig.calm()
    return found


def _assert_hidden(text: str, secrets: tuple[str, ...]) -> None:
    for secret in secrets:
        assert secret, "an empty secret would be found everywhere"
        assert secret not in text
