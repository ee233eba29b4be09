"""Hold the choice of a machine to money and time: cheapest that is in time, nothing unknown taken for free."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contracts.training import Considered, GpuOffer, TrainPlan
from tests.trainer.planning.kit import A100, CPU, T4, effective, inputs, limited, offer
from trainer.planning import Limits, NoOfferFits, PlanInputs, Recipe, make_plan
from trainer.planning.choosing import MOST_ROWS
from trainer.planning.ways import COLD_START_SECONDS

LONG = Recipe(epochs=100, image_size=640, batch=64)
L4 = offer("L4", 23_034, provider="cloud", on_demand_price=0.80, spot_price=0.25)
H100X8 = offer("H100", 81_559, provider="cloud", gpu_count=8, on_demand_price=24.0)
ABACUS = offer("Abacus 9", 24_000, provider="cloud", on_demand_price=0.20)
UNPRICED = T4.model_copy(update={"offer_id": "unpriced", "on_demand_price": None})


def chosen(plan: TrainPlan) -> Considered:
    """Return the row that won."""
    (row,) = [row for row in plan.considered if row.chosen]
    return row


def why(plan: TrainPlan, gpu: str) -> str:
    """Return why the best way with a card lost."""
    return next(row.why for row in plan.considered if row.gpu == gpu)


@pytest.mark.parametrize(
    ("offers", "limits", "wins", "loser", "reason"),
    [
        # A free machine wins while it is in time.
        ((CPU, T4), {}, "cpu", "T4", "costs $"),
        # A person who wants it sooner pays for it.
        ((CPU, T4), {"hours": 1.0}, "T4", "cpu", "takes"),
        # The cheapest of those in time, not the fastest.
        ((T4, A100, H100X8), {"hours": 12.0}, "T4", "H100", "more"),
        # Spot counts where it is allowed.
        ((T4, L4), {"spot": False}, "T4", "L4", "more"),
        ((T4, L4), {"spot": True}, "L4", "T4", "more"),
        # A cap on the hour excludes what would be cheapest over all.
        ((T4, A100), {"dollars_per_hour": 1.0}, "T4", "A100", "over the cap of $1.00"),
        # What has no price cannot be shown to keep a budget.
        ((UNPRICED, A100), {"dollars": 5.0}, "A100", "T4", "price unknown, and a limit is set"),
        # Without limits a known cost goes before an unknown one.
        ((UNPRICED, A100), {}, "A100", "T4", "cost unknown"),
        # A card nobody knows comes after those whose time is known.
        ((ABACUS, T4), {}, "T4", "Abacus 9", "cost unknown"),
        ((ABACUS, T4), {"hours": 3.0}, "T4", "Abacus 9", "speed unknown"),
    ],
)
def test_the_cheapest_in_time_wins(
    offers: tuple[GpuOffer, ...], limits: dict[str, Any], wins: str, loser: str, reason: str
) -> None:
    """Money, time, spot and what is unknown, one rule at a time."""
    plan = make_plan(limited(inputs(*offers, images=2_000), **limits))
    assert plan.offer is not None
    assert plan.offer.gpu == wins
    assert reason in why(plan, loser)


def test_a_card_nobody_knows_can_still_be_planned() -> None:
    """From memory and price alone, and the plan says that its speed is unknown."""
    plan = make_plan(inputs(ABACUS))
    assert effective(plan) == {64}
    assert plan.predicted is None
    assert (chosen(plan).images_per_second, chosen(plan).cost, chosen(plan).basis) == (0.0, None, "")
    assert any("speed unknown: no run on Abacus 9" in reason for reason in plan.reasons)


def test_a_spot_price_of_zero_is_unknown() -> None:
    """Sellers' lists say 0.00 where they do not know; nothing is rented for that."""
    nothing = L4.model_copy(update={"spot_price": 0.0})
    plan = make_plan(limited(inputs(nothing, T4, images=2_000), spot=True))
    assert plan.spot is False
    assert all(row.cost is None or row.cost > 0 for row in plan.considered)
    assert not any(row.spot for row in plan.considered)


def test_a_spot_machine_is_expected_to_be_taken_away_now_and_then() -> None:
    """The same machine at spot takes longer, since each time costs a cold start and half an epoch."""
    plan = make_plan(limited(inputs(L4, images=5_000, recipe=LONG), spot=True))
    by_spot = {row.spot: row.seconds for row in plan.considered if row.precision == "bf16"}
    assert by_spot[True] > by_spot[False] > COLD_START_SECONDS
    assert plan.spot
    assert plan.predicted is not None


def test_several_devices_are_used_where_they_are_paid_for() -> None:
    """A machine of eight cards is rented whole, so all of them train, at the same effective batch."""
    plan = make_plan(inputs(H100X8, images=50_000, recipe=LONG))
    assert plan.devices == 8
    assert plan.stages[0].batch % 8 == 0
    assert effective(plan) == {64}


def test_an_effective_batch_that_cannot_be_split_is_not_split() -> None:
    """A batch of 10 goes over 1, 2 or 5 devices, never over 8."""
    plan = make_plan(inputs(H100X8, images=50_000, recipe=replace(LONG, batch=10)))
    assert {row.gpu_count for row in plan.considered} <= {1, 2, 5}
    assert effective(plan) == {10}


def test_too_little_time_is_told_with_what_would_do() -> None:
    """The error names the fastest and the cheapest way, and the hours or epochs that would do."""
    with pytest.raises(NoOfferFits, match="the fastest takes .* the cheapest") as told:
        make_plan(limited(inputs(T4, A100, images=50_000, recipe=LONG), hours=1.0))
    assert "h instead of 1" in told.value.now
    assert "epochs instead of 100" in told.value.now


def test_the_epochs_that_would_do_do() -> None:
    """A recipe with the epochs of the advice is planned."""
    late = limited(inputs(T4, images=50_000, recipe=LONG), hours=2.0)
    with pytest.raises(NoOfferFits) as told:
        make_plan(late)
    epochs = int(told.value.now.split(" epochs instead of")[0].rsplit(" ", 1)[1])
    assert make_plan(replace(late, recipe=replace(LONG, epochs=epochs))).predicted is not None
    with pytest.raises(NoOfferFits):
        make_plan(replace(late, recipe=replace(LONG, epochs=epochs + 1)))


def test_too_little_money_is_told_with_what_would_do() -> None:
    """The budget that would do is named, and it does."""
    poor = limited(inputs(T4, A100, images=20_000, recipe=LONG), hours=20.0, dollars=0.5)
    with pytest.raises(NoOfferFits, match=r"in 20\.0 h and for \$0\.50") as told:
        make_plan(poor)
    wanted = float(told.value.now.split(" instead of $0.50")[0].rsplit("$", 1)[1])
    assert make_plan(limited(poor, hours=20.0, dollars=wanted + 0.01)).offer is not None


def test_a_free_machine_may_be_late_where_nobody_asked_for_hours() -> None:
    """The hours a tier gets by default bound bills; a machine of one's own goes on, and the plan says so."""
    plan = make_plan(inputs(CPU, images=5_000))
    assert plan.offer == CPU
    assert any("it costs nothing" in reason for reason in plan.reasons)
    with pytest.raises(NoOfferFits):
        make_plan(limited(inputs(CPU, images=5_000), hours=6.0))


def test_few_rows_are_shown_and_the_best_are_among_them() -> None:
    """A catalogue of hundreds of offers ends in a table a person can read."""
    many = [
        T4.model_copy(update={"offer_id": f"t4-{n:03d}", "on_demand_price": 0.3 + n / 1000})
        for n in range(300)
    ]
    tiny = [offer("tiny", 400, offer_id=f"tiny-{n}", provider="cloud") for n in range(30)]
    plan = make_plan(inputs(*many, *tiny))
    assert len(plan.considered) == MOST_ROWS
    assert plan.considered[0].chosen
    assert plan.considered[0].offer_id == "t4-000"
    assert any("needs" in row.why for row in plan.considered)
    assert all(row.why for row in plan.considered)


GPUS = ("T4", "L4", "A100", "H100", "RTX 4090", "Abacus 9")


@st.composite
def wishes(draw: st.DrawFn) -> PlanInputs:
    """Draw offers, limits and a recipe."""
    offers = tuple(
        offer(
            gpu := draw(st.sampled_from(GPUS)), draw(st.sampled_from((1_000, 4_000, 15_360, 24_000, 80_000))),
            offer_id=f"{gpu}-{number}", provider="cloud", gpu_count=draw(st.sampled_from((1, 2, 4, 8))),
            on_demand_price=draw(st.one_of(st.none(), st.floats(0.05, 30.0))),
            spot_price=draw(st.one_of(st.none(), st.floats(0.01, 10.0))),
        )
        for number in range(draw(st.integers(1, 4)))
    )  # fmt: skip
    recipe = Recipe(
        draw(st.sampled_from(("fine-tune", "progressive", "full", "smoke"))), epochs=draw(st.integers(1, 60)),
        batch=draw(st.integers(1, 96)), image_size=draw(st.sampled_from((320, 640, 960))),
    )  # fmt: skip
    made = inputs(*offers, *((CPU,) if draw(st.booleans()) else ()), images=draw(st.integers(1, 30_000)))
    limits = Limits(
        draw(st.one_of(st.none(), st.floats(0.2, 24.0))), draw(st.one_of(st.none(), st.floats(0.0, 50.0))),
        draw(st.one_of(st.none(), st.floats(0.0, 10.0))), draw(st.booleans()),
    )  # fmt: skip
    return replace(made, recipe=recipe, limits=limits)


def planned(one: PlanInputs) -> TrainPlan | NoOfferFits:
    """Return the plan, or why there is none."""
    try:
        return make_plan(one)
    except NoOfferFits as error:
        return error


@settings(max_examples=60, deadline=None)
@given(wishes())
def test_whatever_is_asked_a_plan_keeps_its_promises_or_says_why_not(one: PlanInputs) -> None:
    """Effective batch, memory, deadline, budget and the cheapest price hold in every plan that is made."""
    plan = planned(one)
    if isinstance(plan, NoOfferFits):
        assert plan.now
        return
    assert plan == make_plan(one)
    row, limits = chosen(plan), one.limits
    wanted = min(
        one.recipe.batch, 64 if plan.tier == "smoke" else one.data.train_images, one.data.train_images
    )
    assert effective(plan) == {wanted}
    assert plan.offer is not None
    for stage in plan.stages:
        assert stage.batch % plan.devices == 0
        if stage.vram is not None:
            assert stage.vram.peak_bytes <= plan.offer.gpu_memory_mib * 2**20 * 0.85
    assert sum(stage.epochs for stage in plan.stages) == (1 if plan.tier == "smoke" else one.recipe.epochs)
    assert plan.stages[-1].image_size == one.recipe.image_size
    if limits.hours is not None and row.basis in ("measured", "modelled"):
        assert row.seconds <= limits.hours * 3600 + 0.1
    if limits.dollars is not None:
        assert row.cost is not None
        assert row.cost <= limits.dollars + 1e-4
    if limits.dollars_per_hour is not None and plan.offer.provider == "cloud":
        price = plan.offer.spot_price if plan.spot else plan.offer.on_demand_price
        assert price is not None
        assert price <= limits.dollars_per_hour
    feasible = [other for other in plan.considered if other.why.startswith(("costs", "as ", "the "))]
    if row.cost is not None and "past" not in " ".join(plan.reasons):
        in_time = [other for other in feasible if "of $" not in other.why and other.cost is not None]
        assert all(row.cost <= other.cost + 1e-4 for other in in_time if other.cost is not None)
