"""Give the tests of AutoDL a simulated account of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.database import Database
from flows.gpus.autodl.simulator import AutodlSimulator
from flows.gpus.leases import LeaseBook
from tests.flows.gpus.autodl.rigs import TOKEN
from tests.flows.gpus.contract import write_ticket


@pytest.fixture
def simulator() -> Iterator[AutodlSimulator]:
    """Return a running account."""
    with AutodlSimulator(TOKEN) as running:
        yield running


@pytest.fixture
def book(simulator: AutodlSimulator, tmp_path: Path) -> Iterator[LeaseBook]:
    """Return a lease book that goes by the seller's clock."""
    database = Database.open(f"sqlite:///{tmp_path / 'leases.db'}")
    yield LeaseBook(database, simulator.clock)
    database.close()


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    """Return a file with a ticket."""
    return write_ticket(tmp_path / "ticket.json")
