"""Hold learning to its promise: what was measured moves what is predicted, and memory errs on the safe side."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contracts.training import RunEvent
from tests.trainer.planning.kit import A100, CPU, NOON, RUN, T4, finished, inputs
from trainer.planning import Finished, PlanInputs, Recipe, make_plan
from trainer.planning.history import MOST_FACTOR, learned_memory, learned_overhead


def rate(one: PlanInputs) -> float:
    """Return the images per second a plan expects."""
    plan = make_plan(one)
    assert plan.predicted is not None
    return plan.predicted.images_per_second


def test_the_first_run_replaces_the_model() -> None:
    """A card that a run was seen on is predicted as it was measured."""
    one = inputs(T4)
    plan = make_plan(one)
    assert plan.predicted is not None
    assert plan.predicted.basis == "modelled"
    told = make_plan(replace(one, history=(finished(plan, 41.0),)))
    assert told.predicted is not None
    assert (told.predicted.basis, told.predicted.images_per_second) == ("measured", pytest.approx(41.0))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(5.0, 400.0), min_size=0, max_size=5), st.floats(5.0, 400.0))
def test_one_more_run_moves_the_prediction_towards_it(before: list[float], new: float) -> None:
    """Adding a run of the same configuration never moves the prediction away from what it measured."""
    one = inputs(T4)
    plan = make_plan(one)
    known = tuple(finished(plan, value) for value in before)
    old = rate(replace(one, history=known))
    moved = rate(replace(one, history=(*known, finished(plan, new))))
    assert abs(moved - new) <= abs(old - new) + 0.01


def test_another_size_is_carried_over_by_the_model() -> None:
    """A run at 640 px that was half as fast as modelled halves what is expected of 320 px."""
    large, small = inputs(T4), inputs(T4, recipe=Recipe(image_size=320, batch=64))
    slow = finished(make_plan(large), rate(large) / 2)
    assert rate(replace(small, history=(slow,))) == pytest.approx(rate(small) / 2, rel=0.02)


def test_other_networks_and_cards_teach_nothing() -> None:
    """What another network measured, or another card, leaves the model alone."""
    one = inputs(T4)
    foreign = finished(make_plan(one), 3.0, key="another")
    elsewhere = finished(make_plan(inputs(A100)), 3.0)
    assert rate(replace(one, history=(foreign, elsewhere))) == rate(one)


def test_a_processor_is_learned_by_machine() -> None:
    """What this machine's processor measured says nothing of another machine's."""
    one = inputs(CPU)
    here = finished(make_plan(one), 7.5)
    assert rate(replace(one, history=(here,))) == pytest.approx(7.5)
    there = replace(one, offers=(CPU.model_copy(update={"region": "there"}),), history=(here,))
    assert rate(there) == rate(inputs(CPU))


def test_a_processor_nobody_modelled_is_predicted_once_it_was_measured() -> None:
    """Without cores, a profile or weights nothing is known; after one run the time is."""
    bare = CPU.model_copy(update={"cpu_count": 0})
    one = replace(inputs(bare), network=replace(inputs().network, profile=None))
    plan = make_plan(one)
    assert plan.predicted is None
    assert rate(replace(one, history=(finished(plan, 6.0),))) == pytest.approx(6.0)


def _memory(share: float, count: int = 1) -> tuple[Finished, ...]:
    """Return runs whose peak was this share of what was predicted."""
    plan = make_plan(inputs(T4))
    vram = plan.stages[0].vram
    assert vram is not None
    peak = int(vram.peak_bytes * share) - vram.terms["context"]
    return tuple(finished(plan, 40.0, peak=peak) for _ in range(count))


@pytest.mark.parametrize(
    ("runs", "factor"),
    [
        ((), 1.0),
        (_memory(0.8), 1.0),
        (_memory(0.8, 2), 1.0),
        (_memory(0.8, 3), 0.8),
        ((*_memory(0.8, 3), *_memory(0.6)), 1.0),
        (_memory(1.2), 1.2),
        ((*_memory(0.8, 5), *_memory(1.1)), 1.1),
        (_memory(9.0), MOST_FACTOR),
    ],
    ids=["nothing", "one-less", "two-less", "three-agree", "three-and-one-odd", "one-more", "one-more-of-six", "absurd"],
)  # fmt: skip
def test_memory_is_learned_on_the_safe_side(runs: tuple[Finished, ...], factor: float) -> None:
    """One run that took more raises every estimate; to lower it takes several that agree."""
    assert learned_memory(runs, "net")[0] == pytest.approx(factor, rel=1e-3)


def test_learned_memory_is_in_the_plan_and_does_not_add_up() -> None:
    """The factor is in the estimate and its terms; a run planned with it that took just that teaches no more."""
    one = inputs(T4, history=_memory(1.2))
    plan = make_plan(one)
    vram = plan.stages[0].vram
    assert vram is not None
    assert vram.learned == pytest.approx(1.2, rel=1e-3)
    assert sum(vram.terms.values()) == vram.peak_bytes
    again = finished(plan, 40.0, peak=vram.peak_bytes - vram.terms["context"])
    assert learned_memory((again,), "net")[0] == pytest.approx(1.2, rel=1e-3)
    assert any("x 1.20" in reason for reason in plan.reasons)


def test_a_rung_teaches_that_more_was_needed() -> None:
    """Where memory ran out, what there was is less than was needed, whatever the peaks after the rung say."""
    plan = make_plan(inputs(T4))
    vram = plan.stages[0].vram
    assert vram is not None
    seen = int(vram.peak_bytes * 1.5) - vram.terms["context"]
    rung = RunEvent(
        task_id=plan.task_id, run_id=RUN, number=3, at=NOON, kind="rung", epoch=2,
        data={"rung": "batch", "kind": "device", "stage": 0, "moment": "loss", "seen_bytes": seen - 5_000,
              "asked_bytes": 4_000, "limit_bytes": seen},
    )  # fmt: skip
    run = finished(plan, 40.0, peak=1_000_000)
    taken = replace(run, record=run.record.model_copy(update={"rungs": (rung,)}))
    assert learned_memory((taken,), "net")[0] == pytest.approx(1.5, rel=1e-2)
    for told in (
        {"kind": "host"},
        {"foreseen": True},
        {"moment": "watch", "seen_bytes": 1, "asked_bytes": 0},
    ):
        mild = rung.model_copy(update={"data": {**rung.data, **told}})
        other = replace(run, record=run.record.model_copy(update={"rungs": (mild,)}))
        assert learned_memory((other,), "net")[0] == 1.0


def test_what_a_run_takes_beside_its_epochs_is_learned() -> None:
    """Start, data and export are measured by provider, and enter the prediction."""
    plan = make_plan(inputs(CPU))
    run = finished(plan, 10.0)
    assert learned_overhead((run,), "local") == pytest.approx(30.0)
    assert learned_overhead((run,), "cloud") is None
    told = make_plan(inputs(CPU, history=(run,))).predicted
    assert told is not None
    assert told.seconds - told.train_seconds == pytest.approx(30.0)
