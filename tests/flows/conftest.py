"""Give the tests of the cloud side an installation of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.context import Context
from flows.store import MemoryStore
from tests.flows.kit import make_installation


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    """Return an installation with one task, a store in memory and a real SQLite database."""
    context = make_installation(tmp_path / "installation")
    yield context
    context.database.close()


@pytest.fixture
def memory(ctx: Context) -> MemoryStore:
    """Return the installation's store as what it is."""
    assert isinstance(ctx.store, MemoryStore)
    return ctx.store
