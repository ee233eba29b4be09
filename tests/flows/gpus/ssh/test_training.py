"""Train for real on a host that is reached by SSH: claim in, checkpoints and result out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fleet_contracts import keys
from flows.gpus.settings import SshSection
from flows.gpus.ssh.provider import SshProvider
from tests.flows.gpus.contract import INSTALLATION
from tests.flows.gpus.ssh.kit import StubHost, command_lines, lease_of, wait_for_end
from tests.trainer.conftest import dataset, trained  # noqa: F401
from tests.trainer.rented.kit import HttpStore, running
from trainer.backend_job import BackendEvent, BackendResult


@pytest.mark.soak
def test_a_host_trains(trained: tuple[BackendResult, list[BackendEvent]], tmp_path: Path) -> None:  # noqa: F811
    """A prepared Python on the host trains a run from its claim alone, and its log can be read from here."""
    host = StubHost(tmp_path / "host", ())
    section = SshSection(kind="ssh", hosts=(host.settings(tmp_path / "there", python=sys.executable),))
    provider = SshProvider("boxes", section, INSTALLATION, tmp_path)
    try:
        with running(HttpStore(trained[0].weights.read_bytes(), stages=(1,))) as store:
            ticket = store.ticket_file(tmp_path, store.ticket().model_copy(update={"claim_url": store.claim}))
            machine = provider.launch(lease_of(provider, 1, run=store.run_id), ticket)
            signature = store.claim.partition("=")[2]
            assert signature not in command_lines()
            wait_for_end(provider, machine, 280)
            said = provider.logs(machine)
            assert store.get("result.json") is not None, said
            assert b"trainer.finished" in (store.get(keys.LOG_NAME) or b"")
        assert "trainer.finished" in said
        assert provider.status(machine).detail == "exit code 0"
        kept = [one for one in (tmp_path / "there").rglob("*") if one.is_file()]
        assert not [one for one in kept if signature.encode() in one.read_bytes()]
    finally:
        host.close()
