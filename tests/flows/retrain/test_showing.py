"""Show a run's progress while Prefect comes and goes."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from prefect import artifacts

from flows.context import Context
from flows.gpus.memory import MemoryProvider
from flows.retrain import flow
from flows.retrain.showing import PAUSE_SECONDS, ProgressBar
from tests.flows.retrain.simulated import OFFER
from tests.flows.retrain.test_alarms import event
from tests.flows.retrain.test_money import case_of


class Server:
    """Stand for Prefect's server: takes what is shown, or is away."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.away = False
        self.asked = 0
        self.shown: list[float] = []
        for name in ("create_progress_artifact", "update_progress_artifact", "create_markdown_artifact"):
            patch.setattr(artifacts, name, self._take)

    def _take(self, *_: Any, progress: float = -1.0, **__: Any) -> str:
        self.asked += 1
        if self.away:
            raise ConnectionError("nobody answers")
        self.shown.append(progress)
        return "artifact"


def test_progress_is_shown_and_an_outage_only_pauses_it(
    ready: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While Prefect is away it is asked once a minute; the end is shown whatever was before."""
    server, now = Server(monkeypatch), [0.0]
    plan = case_of(ready, MemoryProvider(), OFFER).plan
    bar = ProgressBar(plan, lambda: now[0])
    bar.heard(event(plan, 1, "epoch"))
    assert server.shown == [0.0, pytest.approx(100.0 / (plan.stages[0].epochs + 1), abs=0.1)]
    server.away = True
    with caplog.at_level(logging.WARNING):
        bar.heard(event(plan, 2, "epoch"))
        bar.heard(event(plan, 2, "watch"))
    assert server.asked == 3
    assert "nobody answers" in caplog.text
    now[0] += PAUSE_SECONDS
    bar.heard(event(plan, 3, "epoch"))
    assert server.asked == 4
    server.away = False
    bar.finish()
    assert server.shown[-1] == 100.0


def test_a_bar_that_began_in_an_outage_appears_later(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks once Prefect is back sees how far the run is."""
    server = Server(monkeypatch)
    server.away = True
    bar = ProgressBar(case_of(ready, MemoryProvider(), OFFER).plan)
    assert (server.asked, server.shown) == (1, [])
    server.away = False
    bar.finish()
    assert server.shown == [100.0]


def test_a_page_that_cannot_be_shown_holds_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Plan, verdict and outcome lie in the bucket; the page is for people."""
    server = Server(monkeypatch)
    server.away = True
    with caplog.at_level(logging.WARNING):
        flow.show("run-plan", "# page", "what it is")
    assert server.asked == 1
    assert "run-plan" in caplog.text
