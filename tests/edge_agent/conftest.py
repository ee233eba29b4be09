"""Give the box's tests a store and a broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge_agent.desk_box import Box
from tests.edge_agent.put_server import PutServer, running_store
from tests.edge_agent.real_broker import RealBroker, running_broker


@pytest.fixture
def store() -> Iterator[PutServer]:
    with running_store() as server:
        yield server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RealBroker]:
    with running_broker(tmp_path) as real:
        yield real


@pytest.fixture
def box(tmp_path: Path, broker: RealBroker, store: PutServer) -> Iterator[Box]:
    made = Box(tmp_path, broker, store)
    made.configure()
    yield made
    made.end()
