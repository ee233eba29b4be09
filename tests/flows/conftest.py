"""Give the tests of the cloud side an installation of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.context import Context
from flows.store import MemoryStore
from tests.flows.kit import make_installation

if TYPE_CHECKING:
    from prefect.events import Event


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


@pytest.fixture
def prefect_gets() -> Iterator[Callable[[], list[Event]]]:
    """Catch what is sent to Prefect; a call waits for all of it and returns it."""
    from prefect.events.clients import AssertingEventsClient
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    def sent() -> list[Event]:
        EventsWorker.instance().wait_until_empty()
        return [event for client in AssertingEventsClient.all for event in client.events]

    AssertingEventsClient.reset()
    EventsWorker.set_client_override(AssertingEventsClient)
    try:
        # With an address that nobody answers prefect starts no server of its own for this.
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
            yield sent
            # Prefect keeps one worker per kind of client for the whole process: the next test's events would go
            # to this test's client, which nobody asks any more.
            EventsWorker.instance().drain()
    finally:
        EventsWorker.set_client_override(None)
