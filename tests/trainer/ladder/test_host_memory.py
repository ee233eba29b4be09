"""Run really out of this machine's memory: an address space that ends, and a kernel that kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers import ROOT, wait_until
from tests.trainer.conftest import job_for
from tests.trainer.scenes import NAMES, items
from trainer.backend import run_to_end
from trainer.backend_job import BackendEvent, BackendJob
from trainer.dataset import DatasetOnDisk, write_dataset
from trainer.following import Vigil
from trainer.ladder import Ladder
from trainer.memory import HostMemory, MemoryGroup
from trainer.memory.trouble import KILLED

MIB = 2**20
IMAGES = 61
SIDE = 1280
BUDGET = 260 * MIB
CACHE = (IMAGES - 1) * SIDE * SIDE * 3
"""What the images take in memory: more than the budget, which is more than a batch takes."""
LIGHT = """
# Next to no network, so that images and batches are what takes memory.
nc: 2
backbone:
  - [-1, 1, Conv, [8, 8, 8, 0]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [[2, 3, 4], 1, Detect, [nc]]
"""
PARENT = """
import os, sys
from pathlib import Path
from trainer.backend import run_to_end
from trainer.backend_job import BackendJob

folder, group = Path(sys.argv[1]), Path(sys.argv[2])
(group / "cgroup.procs").write_text(str(os.getpid()))

def tell(event):
    with (folder / "told.jsonl").open("a") as stream:
        stream.write(event.to_line())

run_to_end(BackendJob.model_validate_json((folder / "asked.json").read_bytes()), tell)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> DatasetOnDisk:
    """Return images that need more memory than the tests allow."""
    return write_dataset(tmp_path_factory.mktemp("many"), NAMES, items(IMAGES, val=1))


def heavy_job(many: DatasetOnDisk, folder: Path, **changes: object) -> BackendJob:
    """Return a job that asks for all images in memory."""
    model = folder / "light.yaml"
    model.write_text(LIGHT)
    return job_for(
        many, folder / "out", start=str(model), image_size=SIDE, epochs=1, augmentation="none", cache="ram",
        export=False, **changes,
    )  # fmt: skip


def test_an_address_space_that_ends_leads_down_the_machine_s_ladder(
    many: DatasetOnDisk, tmp_path: Path
) -> None:
    """Genuine errors of OpenCV or numpy, then of torch's CPU allocator: cache, then batch, and the run ends."""
    assert CACHE > BUDGET
    events: list[BackendEvent] = []
    job = heavy_job(many, tmp_path, batch=4, host_budget_bytes=BUDGET)
    result = run_to_end(job, events.append, ladder=Ladder(images=many.train_images))
    assert result.weights.is_file()
    rungs = [event.data for event in events if event.kind == "rung"]
    assert rungs, "memory never ran out"
    assert all(rung["kind"] == "host" for rung in rungs)
    assert rungs[0]["changed"] == {"cache": ["ram", "disk"]}
    assert "batch" in rungs[-1]["changed"]
    assert rungs[-1]["error"] == "RuntimeError", "torch's CPU allocator"
    assert rungs[-1]["asked_bytes"] > 0
    assert all(rung["seen_bytes"] + rung["asked_bytes"] > 0.9 * rung["limit_bytes"] for rung in rungs)
    settings = next(event for event in events if event.kind == "epoch").data["settings"]
    assert settings["cache"] in ("disk", "none")
    assert settings["batch"] < 4


@pytest.fixture
def group() -> Iterator[Path | None]:
    """Return a fresh memory cgroup of this machine, or None where nobody may make one here."""
    own = MemoryGroup.of(os.getpid())
    folder = own.folder / f"whetstone-test-{os.getpid()}" if own else None
    try:
        if folder is not None:
            folder.mkdir()
    except OSError:
        folder = None
    usable = folder is not None and any(
        (folder / name).is_file() for name in ("memory.oom_control", "memory.max")
    )
    yield folder if usable else None
    if folder is not None and folder.is_dir():
        wait_until(lambda: not (folder / "cgroup.procs").read_text().strip(), 30, "an empty cgroup")
        folder.rmdir()


def test_a_child_that_the_kernel_kills_goes_on_with_less(
    many: DatasetOnDisk, tmp_path: Path, group: Path | None
) -> None:
    """A cgroup's limit kills the child by SIGKILL; the parent knows why, and the next child ends the run.

    Where no cgroup can be made (a container without root), the tests of `Vigil` below stand alone.
    """
    if group is None:
        test_a_kill_that_the_kernel_counted_is_memory_s_end(tmp_path / "simulated")
        return
    job = heavy_job(many, tmp_path, batch=1)
    (tmp_path / "asked.json").write_text(job.model_dump_json())
    told = tmp_path / "told.jsonl"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), str(group)], cwd=ROOT)
    try:
        wait_until(lambda: told.is_file() and "started" in told.read_text(), 60, "the child's libraries")
        _limit(group, parent.pid, BUDGET)
        assert parent.wait(120) == 0
    finally:
        if parent.poll() is None:
            parent.kill()
            parent.wait()
    kills = MemoryGroup(group, 1 if (group / "memory.oom_control").is_file() else 2).kills()
    assert kills, "the kernel killed nobody"
    events = [BackendEvent.from_line(line) for line in told.read_text().splitlines()]
    rungs = [event.data for event in events if event.kind == "rung"]
    assert rungs[0]["cause"] == KILLED
    assert (rungs[0]["kind"], rungs[0]["error"]) == ("host", "SIGKILL")
    assert rungs[0]["limit_bytes"] < 4 * 2**30, "the group's limit, not the machine's memory"
    assert rungs[0]["changed"] == {"cache": ["ram", "disk"]}
    assert events[-1].kind == "finished"


def _limit(group: Path, parent: int, budget: int) -> None:
    """Let the group grow by a budget beyond what its processes take for themselves by now."""
    taken = sum(one.memory_info().rss - one.memory_info().shared
                for one in [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)])  # fmt: skip
    name = "memory.limit_in_bytes" if (group / "memory.limit_in_bytes").is_file() else "memory.max"
    (group / name).write_text(str(taken + budget))


def simulated_group(folder: Path, kills: int = 0) -> MemoryGroup:
    """Return a cgroup of version 2 in an ordinary folder, with the files that are read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax 4\noom 1\noom_kill {kills}\n")
    (folder / "memory.max").write_text("max\n")
    return MemoryGroup(folder, 2)


def watched(folder: Path, code: str = "import time; time.sleep(60)") -> tuple[subprocess.Popen[bytes], Vigil]:
    """Start a process and look at it once."""
    process = subprocess.Popen([sys.executable, "-c", code])
    vigil = Vigil(process.pid, simulated_group(folder))
    vigil.look()
    return process, vigil


def test_a_kill_that_the_kernel_counted_is_memory_s_end(tmp_path: Path) -> None:
    """SIGKILL with one more kill in the group's count is memory's end; the count may be a simulated one."""
    process, vigil = watched(tmp_path)
    process.kill()
    process.wait()
    simulated_group(tmp_path, kills=1)
    trouble = vigil.trouble(process.returncode, "")
    assert trouble is not None
    assert (trouble.kind, trouble.cause, trouble.error) == ("host", KILLED, "SIGKILL")
    assert trouble.seen_bytes > 0


def test_a_kill_without_evidence_is_no_matter_of_memory(tmp_path: Path) -> None:
    """SIGKILL by a person or a scheduler leads to a plain restart, down no rung."""
    process, vigil = watched(tmp_path)
    process.kill()
    process.wait()
    assert vigil.trouble(process.returncode, "epoch 3 of 9") is None


def test_a_process_killed_near_its_limit_is_memory_s_end(tmp_path: Path) -> None:
    """Without a count, the last sample decides: at its limit it was memory."""
    code = ("import re, resource, time\n"
            "now = int(re.search(r'VmSize:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024\n"
            "resource.setrlimit(resource.RLIMIT_AS, (now + 4096, now + 4096))\n"
            "print('capped', flush=True)\n"
            "time.sleep(60)\n")  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    vigil = Vigil(process.pid, simulated_group(tmp_path))
    vigil.look()
    process.send_signal(signal.SIGSEGV)
    process.wait()
    trouble = vigil.trouble(process.returncode, "")
    assert trouble is not None
    assert trouble.error == "SIGSEGV"


@pytest.mark.parametrize(
    ("log", "memory"),
    [
        ("terminate called after throwing an instance of 'std::bad_alloc'", True),
        ("malloc(): corrupted top size", False),
    ],
)
def test_an_aborted_process_is_judged_by_its_last_words(tmp_path: Path, log: str, memory: bool) -> None:  # noqa: FBT001
    """An abort counts as memory's end where the C++ run time says so."""
    process, vigil = watched(tmp_path)
    process.send_signal(signal.SIGABRT)
    process.wait()
    assert (vigil.trouble(process.returncode, log) is not None) == memory


def test_this_machine_s_memory_is_read() -> None:
    """What a process takes, with its children, is less than what there is, and its peak does not fall."""
    memory = HostMemory()
    before = memory.used()
    ballast = os.urandom(64 * MIB)  # too large for what the process kept from before
    assert memory.used() >= before + len(ballast) // 2
    del ballast
    assert memory.peak() >= memory.used()
    assert 0 < memory.used() < memory.total()
    assert memory.free() <= memory.total()
