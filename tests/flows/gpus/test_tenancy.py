"""Hold the tenant to its word over several providers: the next offer, never a dead end, never two machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.database import Database
from flows.gpus.base import GpuProvider, MachineStatus
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.leases import LeaseBook, Terms
from flows.gpus.memory import MemoryProvider
from flows.gpus.outlook import Need, Progress
from flows.gpus.shunned import REFUSED_FOR
from flows.gpus.tenancy import Tenant, no_guard

RUN = "run-0123456789abcdef"


def seller(name: str, price: float, spot: float | None = None) -> MemoryProvider:
    """Return a provider elsewhere with one offer."""
    offer = GpuOffer(
        provider=name, offer_id="t4", gpu="T4", gpu_count=1, gpu_memory_mib=16384, on_demand_price=price,
        spot_price=spot, priced_at=utc_now(),
    )  # fmt: skip
    made = MemoryProvider(offer, name=name)
    made.elsewhere = True
    return made


@pytest.fixture
def book(tmp_path: Path) -> Iterator[LeaseBook]:
    """Return the lease book of a fresh database."""
    database = Database.open(f"sqlite:///{tmp_path / 'test.db'}")
    yield LeaseBook(database)
    database.close()


def tenant_of(
    book: LeaseBook,
    *sellers: MemoryProvider,
    guard: Callable[[GpuProvider, Terms], None] = no_guard,
    **changes: object,
) -> Tenant:
    """Return a tenant for an hour's work in ten."""
    values = {
        "task_id": "plates", "run_id": RUN, "deadline": book.now() + timedelta(hours=10), "has_deadline": True,
        "price_cap": 0.0, "work_minutes": 60.0, "cold_start": 5.0, "epoch": 3.0, "fits": lambda _: True, **changes,
    }  # fmt: skip
    need = Need(**values)  # type: ignore[arg-type]
    return Tenant(book, {one.name: one for one in sellers}, need, lambda: Path("ticket.json"), guard)


def machines(*sellers: MemoryProvider) -> list[str]:
    """Return every machine that runs anywhere."""
    return [machine.machine for one in sellers for machine in one.list_ours()]


def test_a_refused_launch_goes_to_the_next_best_at_once(book: LeaseBook) -> None:
    """Quota, an offer that vanished: the second cheapest is rented in the same step, and one machine only."""
    cheap, next_best, dear = seller("cheap", 0.2), seller("next", 0.4), seller("dear", 2.0)
    cheap.refusal = "quota exceeded"
    tenant = tenant_of(book, cheap, next_best, dear)
    assert tenant.step(Progress()).offer == "next/t4/on-demand"
    assert "quota exceeded" in tenant.refusal
    assert len(machines(cheap, next_best, dear)) == 1
    assert [lease.provider for lease in book.live()] == ["next"]
    assert [lease.end_reason for lease in book.of_run(RUN) if lease.provider == "cheap"] == [
        "launch refused: quota exceeded"
    ]


def test_the_only_offer_is_asked_again_after_a_refusal(book: LeaseBook) -> None:
    """A provider that is sold out now may sell later: the run waits for it and does not end."""
    only = seller("only", 0.2)
    only.refusal = "sold out"
    tenant = tenant_of(book, only)
    assert tenant.step(Progress()).kind == "wait"
    only.refusal = ""
    assert tenant.step(Progress()).kind == "wait", "it is left alone for a while"
    book.now = lambda: utc_now() + REFUSED_FOR + timedelta(seconds=1)
    assert tenant.step(Progress()).kind == "rent"


def test_a_wrong_token_sends_the_run_to_another_provider(book: LeaseBook) -> None:
    """Whether the token is refused before the launch or by it."""

    def standing(provider: GpuProvider, _: Terms) -> None:
        provider.standing()

    for late in (False, True):
        wrong, other = seller("wrong", 0.2), seller("other", 0.4)
        wrong.token_refusal = "revoked"
        if late:
            wrong.launch = _refuses_the_token  # type: ignore[method-assign]
        tenant = tenant_of(book, wrong, other, guard=no_guard if late else standing)
        moves = [tenant.step(Progress())]
        if late:
            # A machine may have come of the launch: nothing is rented until that is known.
            assert moves[0].kind == "wait"
            wrong.token_refusal = ""
            book.now = lambda: utc_now() + timedelta(hours=1)
            wrong.launch = MemoryProvider.launch.__get__(wrong)  # type: ignore[method-assign]
            assert tenant.step(Progress()).offer == "wrong/t4/on-demand"
        else:
            assert moves[0].offer == "other/t4/on-demand"
        assert len(machines(wrong, other)) == 1
        tenant.end("done")


def _refuses_the_token(lease: Lease, ticket: Path) -> str:
    raise TokenRefused(expected="a token", got="one that was revoked", where="wrong")


def test_nothing_is_given_up_for_a_launch_that_is_forbidden(book: LeaseBook) -> None:
    """The machine at work stays when the guard forbids the better one."""
    here, better = seller("here", 2.0), seller("better", 0.1)
    better._offers = ()
    forbidden: list[str] = []

    def guard(provider: GpuProvider, _: Terms) -> None:
        if provider is better:
            forbidden.append(provider.name)
            raise LaunchRefused(expected="a store it reaches", got="loopback", where=provider.name)

    tenant = tenant_of(book, here, better, guard=guard)
    assert tenant.step(Progress()).kind == "rent"
    before = machines(here, better)
    better._offers = seller("better", 0.1).offers()
    assert tenant.step(Progress()).kind == "stay"
    assert forbidden == ["better"]
    assert machines(here, better) == before
    assert tenant.is_running()


def test_an_unfit_offer_is_left_alone(book: LeaseBook) -> None:
    """A machine that was not what it was sold as is not rented again; the next one is."""
    liar, honest = seller("liar", 0.2), seller("honest", 0.4)
    tenant = tenant_of(book, liar, honest)
    assert tenant.step(Progress()).offer.startswith("liar/")
    tenant.shun("8 GiB where 16 were promised")
    tenant.end("unfit")
    assert tenant.step(Progress()).offer.startswith("honest/")
    book.now = lambda: utc_now() + timedelta(hours=2)
    tenant.end("once more")
    assert tenant.step(Progress()).offer.startswith("honest/")


def test_a_provider_that_is_away_hides_no_other(book: LeaseBook) -> None:
    """One provider's outage or token costs its own offers only; with none left it is told."""
    away, wrong, there = seller("away", 0.1), seller("wrong", 0.1), seller("there", 0.4)
    away.is_away = True
    wrong.offers = _no_token  # type: ignore[method-assign]
    assert tenant_of(book, away, wrong, there).step(Progress()).offer.startswith("there/")
    tenant_of(book, away, wrong, there).end("done")
    with pytest.raises((ProviderAway, TokenRefused)):
        tenant_of(book, away, wrong).step(Progress())


def _no_token() -> tuple[GpuOffer, ...]:
    raise TokenRefused(expected="a token", got="none", where="wrong")


def test_a_preempted_run_goes_on_at_another_provider(book: LeaseBook) -> None:
    """After a spot machine's death the next best is taken from whoever has it, and the dead lease is closed."""
    first, second = seller("first", 1.0, spot=0.1), seller("second", 0.9, spot=0.2)
    tenant = tenant_of(book, first, second)
    assert tenant.step(Progress()).offer == "first/t4/spot"
    (machine,) = machines(first)
    first.machines.clear()
    first.states[machine] = MachineStatus("ended", "preempted")
    first._offers = tuple(one.model_copy(update={"spot_price": None}) for one in first._offers)
    assert tenant.step(Progress(saved=0.5, here=0.5)).offer == "second/t4/spot"
    assert [lease.provider for lease in book.live()] == ["second"]


def test_data_that_cost_to_send_are_weighed(book: LeaseBook) -> None:
    """A machine that is cheaper by the hour loses where each start sends it dear gigabytes."""
    near, far = seller("near", 0.5), seller("far", 0.4)
    costs = {"near": 0.0, "far": 3.0}
    tenant = tenant_of(book, near, far, entry_of=lambda offer: costs[offer.provider])
    assert tenant.step(Progress()).offer.startswith("near/")
