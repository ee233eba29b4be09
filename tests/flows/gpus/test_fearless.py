"""Rent through storms: no machine outlives its lease, none is paid twice, every run ends with a model or a reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flows.database import Database
from tests.flows.gpus.chaos import GRACE_MINUTES, Chaos, Result


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an empty database once; every run copies it."""
    path = tmp_path_factory.mktemp("template") / "leases.db"
    database = Database.open(f"sqlite:///{path}")
    database.close()
    return path


def play(folder: Path, template: Path, seeds: range) -> list[Result]:
    """Play every seed."""
    return [Chaos(folder / str(seed), template, seed).play() for seed in seeds]


def require_fearless(results: list[Result]) -> None:
    """Hold every run to what renting promises."""
    for seed, result in enumerate(results):
        assert result.outcome in {"a model", "the deadline passed"}, (seed, result)
        assert result.overlived <= GRACE_MINUTES, (seed, result)
        assert result.doubled == 0, (seed, result)
        assert result.left_running == 0, (seed, result)


def test_nothing_is_left_running_whatever_dies(tmp_path: Path, template: Path) -> None:
    """Forty runs with kills, lost answers, lagging lists and preemptions; each kind of trouble fired."""
    results = play(tmp_path, template, range(40))
    require_fearless(results)
    assert sum(result.kills for result in results) > 40
    assert sum(result.failures for result in results) > 150
    assert sum(result.lost_launches for result in results) > 8
    assert sum(result.preemptions for result in results) > 10
    assert Counter(result.outcome for result in results)["a model"] >= 25


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_thousand_runs_leave_nothing_behind(tmp_path: Path, template: Path) -> None:
    """The same, a thousand times."""
    results = play(tmp_path, template, range(1000, 2000))
    require_fearless(results)
