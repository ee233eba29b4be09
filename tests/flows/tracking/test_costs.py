"""Say what runs cost beside what they brought."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from fleet_contracts.training import GpuOffer, Lease
from flows.tracking.costs import Ran, cost_of_model, cost_per_point, gain_points, saved_by_spot

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


def lease(dollars: float | None, *, spot: bool = False, hours: float = 2.0) -> Lease:
    """Return a lease of two hours that cost so much, and would have cost 3 dollars an hour on demand."""
    offer = GpuOffer(
        provider="cloud", offer_id="a", gpu="T4", gpu_count=1, gpu_memory_mib=1, priced_at=NOON, on_demand_price=3.0
    )
    return Lease(
        task_id="plates", lease_id="lease-0011223344556677", run_id="run-0123456789abcdef", provider="cloud", offer=offer,
        price_cap=0.0, deadline=NOON, state="ended", machine="m", recorded_at=NOON, ended_at=NOON + timedelta(hours=hours),
        launched_at=NOON, spot=spot, cost=dollars,
    )  # fmt: skip


def ran(name: str, state: str, hours: float, *dollars: float) -> Ran:
    """Return a run that ended so many hours after noon."""
    return Ran(name, state, NOON + timedelta(hours=hours), tuple(map(lease, dollars)))


def test_a_model_costs_what_led_to_it() -> None:
    """Refused, failed and cancelled runs since the model before are paid for as well."""
    runs = [
        ran("a", "finished", 1, 1.0),
        ran("b", "refused", 2, 2.0),
        ran("c", "failed", 3, 4.0, 8.0),
        ran("d", "cancelled", 4, 16.0),
        ran("e", "finished", 5, 32.0),
        ran("f", "refused", 6, 64.0),
    ]
    assert cost_of_model("a", runs, NOON) == 1.0
    assert cost_of_model("e", reversed(runs), NOON) == 2.0 + 12.0 + 16.0 + 32.0
    assert cost_of_model("b", runs, NOON) is None
    assert cost_of_model("none", runs, NOON) is None


def test_a_point_is_a_hundredth_of_map50_over_the_champion() -> None:
    """Without a champion, a gain or a known price there is no such cost."""
    gain = gain_points({"candidate.val_map50": 0.72, "champion.val_map50": 0.70})
    assert gain == pytest.approx(2.0)
    assert cost_per_point(5.0, gain) == pytest.approx(2.5)
    assert gain_points({"candidate.val_map50": 0.72}) is None
    assert cost_per_point(5.0, 0.0) is None
    assert cost_per_point(5.0, -1.0) is None
    assert cost_per_point(None, 2.0) is None
    assert cost_per_point(5.0, None) is None


def test_spot_saves_what_the_same_hours_cost_on_demand() -> None:
    """A machine on demand saves nothing; an unknown cost is left out."""
    assert saved_by_spot([lease(1.0, spot=True), lease(6.0)], NOON) == pytest.approx(5.0)
    unknown = lease(None, spot=True).model_copy(update={"offer": lease(1.0).offer.model_copy(update={"on_demand_price": None})})
    assert saved_by_spot([unknown], NOON) == 0.0
