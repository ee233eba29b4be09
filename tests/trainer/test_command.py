"""Use the trainer as a rented machine does: one command, and an exit status that says what to do."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts.base import utc_now
from tests.helpers import ROOT, free_port
from tests.trainer.conftest import job_for
from tests.trainer.store import RunStore
from trainer.__main__ import AGAIN, FAILED, main
from trainer.backend_job import BackendEvent, BackendResult
from trainer.dataset import DatasetOnDisk
from trainer.errors import TrainerError
from trainer.journal import Journal
from trainer.report_back import Reporter
from trainer.stages import StageRun, run_stages
from trainer.ticket_desk import TicketDesk


def test_a_ticket_that_is_none_fails_for_good(tmp_path: Path) -> None:
    """A file that is no ticket is told by name, and no other start would help."""
    ticket = tmp_path / "ticket.json"
    ticket.write_text("{}")
    assert main(["run", "--ticket", str(ticket), "--work", str(tmp_path / "work")]) == FAILED


def test_a_store_that_is_away_is_worth_another_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing could be fetched the exit status asks to be started again."""
    monkeypatch.setattr("trainer.fetch.ATTEMPTS", 1)
    dead = f"http://127.0.0.1:{free_port()}/plan.json"
    ticket = RunStore(b"weights").ticket().model_copy(update={"plan_url": dead, "renew_url": dead})
    path = RunStore(b"weights").ticket_file(tmp_path, ticket)
    assert main(["run", "--ticket", str(path), "--work", str(tmp_path / "work")]) == AGAIN


def test_the_command_explains_itself() -> None:
    """`python -m trainer run --help` names its options without loading torch."""
    code = "import sys, trainer.__main__; assert 'torch' not in sys.modules; assert 'ultralytics' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    told = subprocess.run(
        [sys.executable, "-m", "trainer", "run", "--help"],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "--ticket" in told.stdout


def test_a_run_ends_at_its_deadline(
    trained: tuple[BackendResult, list[BackendEvent]], dataset: DatasetOnDisk, tmp_path: Path
) -> None:
    """A plan's deadline ends training with the reason, whatever the child is doing."""
    store = RunStore(trained[0].weights.read_bytes(), stages=(500,))
    plan = store.plan.model_copy(update={"deadline": utc_now() + timedelta(seconds=0.5)})
    asked = job_for(dataset, tmp_path)
    with (
        Reporter(TicketDesk(store.ticket(), store.wire)) as reporter,
        pytest.raises(TrainerError, match="deadline"),
    ):
        run_stages(
            StageRun(plan, Path(trained[0].weights), asked.dataset, tmp_path, Journal(plan, None, 0), reporter,
                     stop=_Never())
        )  # fmt: skip


class _Never:
    """Ask nobody to stop."""

    def is_set(self) -> bool:
        return False
