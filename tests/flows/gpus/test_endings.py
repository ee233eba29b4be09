"""Hold launches to the rule of who ends a machine when nobody of ours lives."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flows.gpus.base import Ending, EndingKind
from flows.gpus.endings import UNNOTICED, Launch, Reaper, hosts_of, why_not, worst_cost

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


def launch(kind: EndingKind, *, price: float | None = 1.0, consent: float = 0.0) -> Launch:
    """Return a launch of six hours."""
    return Launch("cloud", Ending(kind, "by test"), price, NOW + timedelta(hours=6), consent)


def reaper(host: str, boot: str, *, age: float = 5.0, provider: str = "cloud") -> Reaper:
    """Return a reaper that a provider answered `age` seconds ago."""
    return Reaper(host, boot, {provider: NOW - timedelta(seconds=age)})


@pytest.mark.parametrize("kind", ["own-process", "server-deadline"])
def test_a_bill_with_an_end_that_is_not_ours_needs_nothing(kind: EndingKind) -> None:
    """Nobody has to live for what the seller or our own machine ends."""
    assert why_not(launch(kind), [], NOW) == ""


@pytest.mark.parametrize("kind", ["exit-ends", "instance-key", "guest-power-off"])
def test_a_machine_that_ends_itself_needs_one_reaper(kind: EndingKind) -> None:
    """A guest that hangs ends nothing: somebody must be able to."""
    told = why_not(launch(kind), [], NOW)
    assert kind in told
    assert "run a reaper" in told
    assert why_not(launch(kind), [reaper("a", "1")], NOW) == ""


def test_a_machine_that_nothing_ends_needs_reapers_on_two_hosts() -> None:
    """One reaper dies with its host; two in containers of one host, or one before and after a boot, are one."""
    one = reaper("a", "1")
    told = why_not(launch("none"), [one], NOW)
    assert "a live reaper on a alone" in told
    assert "run reapers on two hosts" in told
    assert why_not(launch("none"), [one, reaper("container", "1")], NOW) != ""
    assert why_not(launch("none"), [one, reaper("a", "2")], NOW) != ""
    assert why_not(launch("none"), [one, reaper("b", "2")], NOW) == ""


def test_only_a_reaper_that_sees_the_provider_now_counts() -> None:
    """One that is silent, whose clock is far ahead, or who cannot see this provider ends nothing."""
    for bad in (reaper("b", "2", age=121), reaper("b", "2", age=-61), reaper("b", "2", provider="other")):
        assert why_not(launch("none"), [reaper("a", "1"), bad], NOW) != ""
    assert hosts_of([reaper("b", "2"), reaper("a", "1")]) == ("a", "b")


def test_consent_to_the_worst_cost_stands_in() -> None:
    """It covers the price until a person finds the machine; the refusal names the sum to write."""
    worst = (6 + UNNOTICED.total_seconds() / 3600) * 1.0
    assert worst_cost(launch("none"), NOW) == pytest.approx(worst)
    told = why_not(launch("none", consent=worst - 0.01), [], NOW)
    assert f"consent to ${worst:.2f}" in told
    assert f"worst_cost = {int(worst) + 1}" in told
    assert "[providers.cloud]" in told
    assert why_not(launch("none", consent=int(worst) + 1), [], NOW) == ""


def test_an_unknown_price_cannot_be_consented_to() -> None:
    """Whatever sum was named may be too little; what is free needs no consent at all."""
    assert "its price is unknown" in why_not(launch("none", price=None, consent=1e9), [], NOW)
    assert why_not(launch("none", price=0.0), [], NOW) == ""


def test_a_lease_that_is_over_costs_until_it_is_noticed() -> None:
    """A deadline that passed takes nothing off the time until a person looks."""
    late = Launch("cloud", Ending("none", ""), 2.0, NOW - timedelta(hours=5))
    assert worst_cost(late, NOW) == pytest.approx(2.0 * UNNOTICED.total_seconds() / 3600)
