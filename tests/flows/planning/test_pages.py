"""Read the pages people are shown: the plan with everything that lost, and predicted beside measured."""

from __future__ import annotations

from dataclasses import replace

from flows.planning.pages import outcome_page, plan_page
from tests.trainer.planning.kit import A100, CPU, T4, finished, inputs, limited
from trainer.planning import Recipe, make_plan


def test_a_plan_tells_what_where_why_and_what_lost() -> None:
    """Stages, memory terms, every way considered, the prediction and the reasons are on the page."""
    recipe = Recipe("progressive", epochs=20, image_size=640, batch=64)
    plan = make_plan(limited(inputs(T4, A100, CPU, images=2_000, recipe=recipe), hours=2.0))
    page = plan_page(plan)
    assert "on **T4 of cloud**" in page
    assert "| 0 | 320 px |" in page
    assert "| 2 | 640 px |" in page
    assert "| activations |" in page
    assert "**peak, in " in page
    assert page.count("not confirmed") >= len(plan.stages)
    for row in plan.considered:
        assert row.why in page
    for reason in plan.reasons:
        assert f"* {reason}" in page
    assert "images/s, modelled" in page
    assert all(line.count("|") > 2 for line in page.splitlines() if line.startswith("|"))


def test_a_plan_without_a_card_shows_no_memory() -> None:
    """On a processor nothing is estimated, so nothing is shown that looks like it."""
    page = plan_page(make_plan(inputs(CPU)))
    assert "## Memory" not in page
    assert "not confirmed" not in page


def test_predicted_stands_beside_measured() -> None:
    """Time, speed and memory with the difference in per cent; the context is added to what the process saw."""
    plan = make_plan(inputs(T4, images=2_000))
    assert plan.vram is not None
    assert plan.predicted is not None
    seen = plan.vram.peak_bytes - plan.vram.terms["context"]
    run = finished(plan, plan.predicted.images_per_second * 2, peak=seen)
    page = outcome_page(plan, run.record)
    assert "| images/s |" in page
    assert "+100%" in page
    assert "| memory, stage 0 |" in page
    assert "(not confirmed)" in page
    assert "| memory rungs | 0 | 0 |" in page
    memory_line = next(line for line in page.splitlines() if line.startswith("| memory, stage 0"))
    assert memory_line.endswith("+0% |")


def test_a_plan_without_prediction_still_shows_what_was_measured() -> None:
    """The first run on an unknown machine has nothing to be compared with."""
    plan = make_plan(inputs(CPU)).model_copy(update={"predicted": None})
    page = outcome_page(plan, finished(plan, 7.0).record)
    assert "| images/s | unknown | 7.0 |" in page


def test_a_run_without_epochs_is_shown() -> None:
    """A run that died at once leaves a page, not an error."""
    plan = make_plan(inputs(T4))
    run = finished(plan, 7.0)
    record = run.record.model_copy(update={"epochs": (), "ended_at": None})
    assert "| training |" in outcome_page(plan, replace(run, record=record).record)
