"""Check which machines a plan goes on with when its own is gone."""

from __future__ import annotations

import pytest

from fleet_contracts import utc_now
from fleet_contracts.samples import ClassList
from fleet_contracts.training import Considered, GpuOffer, StartWeights, TrainPlan, TrainStage
from flows.retrain.needs import fits, need_of, speed_of


def offer(gpu: str, mib: int, price: float | None = 1.0, count: int = 1) -> GpuOffer:
    """Return an offer."""
    return GpuOffer(
        provider="p", offer_id=gpu, gpu=gpu, gpu_count=count, gpu_memory_mib=mib, on_demand_price=price,
        priced_at=utc_now(),
    )  # fmt: skip


def plan(chosen: GpuOffer, *considered: Considered) -> TrainPlan:
    """Return a plan for an offer."""
    return TrainPlan(
        task_id="plates", run_id="run-0123456789abcdef", snapshot_id="1" * 64,
        start=StartWeights(kind="origin", sha256="0" * 64, key="k"),
        class_list=ClassList(task_id="plates", version=1, names=("a",)), recipe="fine-tune",
        stages=(TrainStage(image_size=640, epochs=2, batch=8),), amp=True, offer=chosen, considered=considered,
    )  # fmt: skip


def test_a_slower_card_is_known_to_be_slower() -> None:
    """What the planner worked out counts, else what the cards are; an unknown card is left out."""
    rows = (
        Considered(gpu="A100", gpu_count=1, precision="bf16", images_per_second=200.0, chosen=True),
        Considered(gpu="A40", gpu_count=1, precision="bf16", images_per_second=80.0),
        Considered(gpu="A40", gpu_count=1, precision="fp32", images_per_second=30.0),
    )
    planned = plan(offer("A100", 40_960), *rows)
    assert speed_of(planned, offer("A40", 46_068)) == pytest.approx(0.4)
    assert speed_of(planned, offer("L40S", 46_068)) == pytest.approx(864 / 1555)
    assert speed_of(planned, offer("A100", 81_920)) == 1.0
    assert not fits(planned, offer("Abacus", 81_920))
    assert need_of(planned, utc_now()).speed_of(offer("A40", 46_068)) == pytest.approx(0.4)


def test_memory_is_what_a_card_has_not_what_its_seller_says() -> None:
    """A 16 GB T4 does for a plan on a T4, however rounded; it does not for a card that has 16 GiB."""
    assert fits(plan(offer("T4", 15_360)), offer("T4", 16_384))
    assert fits(plan(offer("T4", 16_384)), offer("T4", 15_360))
    assert not fits(plan(offer("V100", 16_384)), offer("T4", 16_384))


def test_a_plan_for_nothing_never_goes_on_for_money() -> None:
    """No budget was asked about it."""
    home = plan(offer("cpu", 0, 0.0, 0))
    assert fits(home, offer("cpu", 0, 0.0, 0))
    assert not fits(home, offer("cpu", 0, 0.5, 0))
    assert not fits(home, offer("cpu", 0, None, 0))
