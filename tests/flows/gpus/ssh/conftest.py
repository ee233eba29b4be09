"""Run the hosts once for all tests here; every test has folders of its own on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.gpus.contract import write_ticket
from tests.flows.gpus.ssh.kit import SshRig, StubHost


@pytest.fixture(scope="package")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StubHost, StubHost]]:
    """Return two hosts."""
    place = tmp_path_factory.mktemp("hosts")
    made = (StubHost(place / "first"), StubHost(place / "second"))
    yield made
    for one in made:
        one.close()


@pytest.fixture
def rig(tmp_path: Path, hosts: tuple[StubHost, StubHost]) -> Iterator[SshRig]:
    """Return both hosts with fresh folders."""
    write_ticket(tmp_path / "ticket.json")
    made = SshRig(tmp_path, *hosts)
    yield made
    made.close()
