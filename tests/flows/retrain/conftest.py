"""Give the tests of retraining an installation that is ready to train, and a store on which a flow can die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.context import Context
from tests.flows.kit import make_installation, sent_and_labelled
from tests.flows.retrain.simulated import SETTINGS, DeadlyStore, with_champion


@pytest.fixture
def store() -> DeadlyStore:
    """Return a store on which a flow can die."""
    return DeadlyStore()


@pytest.fixture
def ready(tmp_path: Path, store: DeadlyStore) -> Iterator[Context]:
    """Return an installation with a champion and enough labels for a run."""
    made = make_installation(tmp_path / "installation", store=store, task=SETTINGS)
    ctx = with_champion(made, tmp_path)
    sent_and_labelled(ctx, 24)
    yield ctx
    ctx.database.close()
