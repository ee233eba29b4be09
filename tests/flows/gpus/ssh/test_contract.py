"""Hold the SSH adapter to the contract, against a real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.gpus.contract import ProviderContract, write_ticket
from tests.flows.gpus.ssh.kit import SshRig, StubHost


class TestSshContract(ProviderContract):
    """Hold it."""

    @pytest.fixture
    def rig(self, tmp_path: Path, hosts: tuple[StubHost, StubHost]) -> Iterator[SshRig]:
        """Return both hosts with fresh folders."""
        write_ticket(tmp_path / "ticket.json")
        made = SshRig(tmp_path, *hosts)
        yield made
        made.close()
