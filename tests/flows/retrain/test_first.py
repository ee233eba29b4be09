"""Test what stops a first release before anything is exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.champion import Entry
from flows.context import Context
from flows.errors import CannotStart
from flows.retrain.first import first_release
from flows.settings import DecisionSettings
from tests.flows.kit import TASK, with_task


def test_a_least_area_for_no_class_stops_it(ctx: Context, tmp_path: Path) -> None:
    """Also where the gate is overruled for want of labels: a misspelt name is never left out in silence."""
    ctx = with_task(ctx, decision=DecisionSettings(min_area_px={"scrach": 40.0}))
    weights = tmp_path / "never-read.pt"
    with pytest.raises(CannotStart, match="scrach"):
        first_release(ctx, TASK, weights, Entry("AGPL-3.0", "no labels", "test"), overrule="no labels yet")
