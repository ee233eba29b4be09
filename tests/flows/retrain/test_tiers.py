"""Send a task's event to its tier's deployment, and settings to the server that holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.context import Context
from flows.events import MemoryEvents, PrefectEvents
from flows.retrain import deploying
from flows.retrain.tiers import TIERS, event_of, pool_of, tier_now
from flows.settings import PrefectSettings, RecipeSettings, Settings, write_settings
from flows.trigger import EVENT, check_trigger, emit_ready
from tests.flows.kit import TASK, with_task
from trainer.planning.plan import TIER_HOURS

if TYPE_CHECKING:
    from prefect.events import Event


def test_every_tier_of_the_planner_has_a_pool() -> None:
    """Names agree everywhere; without a tier it is the common pool."""
    assert set(TIERS) == set(TIER_HOURS)
    assert [pool_of(tier) for tier in ("", "full")] == ["whetstone", "whetstone-full"]
    assert [event_of(EVENT, tier) for tier in ("", "full")] == [EVENT, f"{EVENT}.full"]
    wanted = deploying.deployments_of(deploying.Wanted())
    assert {one.name: one.pool for one in wanted if one.tier} == {f"retrain-{tier}": pool_of(tier) for tier in TIERS}


def test_the_event_names_the_tier_that_a_run_would_have(ready: Context) -> None:
    """By recipe and labelled images, as the plan will say; the payload carries it to the sink."""
    for recipe, tier in (("smoke", "smoke"), ("full", "full"), ("fine-tune", "fine-tune"), ("mine", "fine-tune")):
        assert tier_now(with_task(ready, recipe=RecipeSettings(name=recipe)), TASK) == tier
    ctx = with_task(ready, recipe=RecipeSettings(tier="smoke"))
    events = MemoryEvents()
    assert emit_ready(ctx, check_trigger(ctx, TASK), events=events)
    assert [(event, payload["tier"]) for event, _, payload in events.sent] == [(EVENT, "smoke")]


def test_prefect_gets_the_tier_at_the_events_end(prefect_gets: Callable[[], list[Event]]) -> None:
    """Which is what the tier's automation waits for."""
    PrefectEvents().emit(EVENT, TASK, {"tier": "smoke"})
    assert [event.event for event in prefect_gets()] == [f"{EVENT}.smoke"]


def test_how_many_train_at_once_comes_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without an installation; the command line says otherwise for both."""
    monkeypatch.setenv("WHETSTONE_FOLDER", str(tmp_path))
    assert deploying._at_once() == 1
    write_settings(tmp_path, Settings(prefect=PrefectSettings(at_once=3)))
    assert deploying._at_once() == 3
