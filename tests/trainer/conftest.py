"""Share one short training among the tests that need weights or a model file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.trainer.scenes import MODEL, NAMES, SIZE, items
from trainer.backend import run_child
from trainer.backend_job import BackendEvent, BackendJob, BackendResult
from trainer.dataset import DatasetOnDisk, write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetOnDisk:
    """Return a dataset of twelve training and four validation scenes."""
    return write_dataset(tmp_path_factory.mktemp("scenes"), NAMES, items(16))


def job_for(dataset: DatasetOnDisk, out: Path, **changes: object) -> BackendJob:
    """Return a job small enough for a test."""
    values = {
        "start": str(MODEL), "dataset": dataset.folder, "out": out, "class_names": dataset.class_names,
        "image_size": SIZE, "epochs": 3, "batch": 4, "threads": 1, "niceness": 0, **changes,
    }  # fmt: skip
    return BackendJob.model_validate(values)


@pytest.fixture(scope="session")
def trained(
    dataset: DatasetOnDisk, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BackendResult, list[BackendEvent]]:
    """Return the result and the events of one whole training."""
    events: list[BackendEvent] = []
    job = job_for(dataset, tmp_path_factory.mktemp("trained"), epochs=3)
    return run_child(job, events.append), events


def parent_of(job: BackendJob, folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that does a job as its parent, so that a test can kill it."""
    code = (
        "import sys; from pathlib import Path\n"
        "from trainer.backend import run_child\n"
        "from trainer.backend_job import BackendJob\n"
        "run_child(BackendJob.model_validate_json(Path(sys.argv[1]).read_bytes()))\n"
    )
    asked = folder / "asked.json"
    asked.write_text(job.model_dump_json())
    return subprocess.Popen([sys.executable, "-c", code, str(asked)], cwd=ROOT)
