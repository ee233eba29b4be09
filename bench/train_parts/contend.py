"""Run one contender in a process of its own and measure that process from outside."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.edge_parts.machine import core_busy_s
from bench.train_parts.clock import steady_seconds
from bench.train_parts.data import TwoLayouts, drawn_items, folder_items, write_both
from bench.train_parts.kills import Kill, Study
from bench.train_parts.plan import EVERY_THREAD, OURS, Case, job_values
from demo.line.script import ALL_CLASSES
from trainer.backend_job import BackendJob

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".whetstone-bench" / "train"
LIMIT_S = 1800.0
DEMO_START, OTHER_START = "demo", "yolo11n.yaml"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ContenderDied(Exception):
    """Say that a contender's process ended badly; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Hold what is made before anybody trains: the images, the start weights, and where they lie."""

    case: Case
    data: TwoLayouts
    start: Path
    seed: int
    cuda: bool

    def job(self, out: Path, **changes: Any) -> BackendJob:
        """Return the case as a job."""
        values = {**job_values(self.case, self.seed, cuda=self.cuda), **changes}
        return BackendJob.model_validate({
            "start": str(self.start), "dataset": self.data.ours, "out": out,
            "class_names": self.data.class_names, **values,
        })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """Hold one training of one contender.

    Attributes:
        total_s: from the process's start to its end, without the validation nobody asked for.
        steady_s: from the end of the first epoch to the end of the last.
        cpu_s: processor seconds of the process and its children.
        foreign: share of all cores' time that other processes took meanwhile.
    """

    total_s: float
    steady_s: float
    cpu_s: float
    cores: int
    peak_rss_mb: float
    foreign: float
    images: int
    wait_share: float | None
    loss_first: float
    loss_last: float
    weights: str
    peak_device_mb: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def images_per_s(self) -> float:
        """Return the pace after the first epoch."""
        return self.images / self.steady_s

    @property
    def busy_share(self) -> float:
        """Return the share of all cores' time that the contender used."""
        return self.cpu_s / (self.total_s * self.cores)


def make_ready(case: Case, images: Path | None, seed: int, *, cuda: bool) -> Ready:
    """Make images and start weights of a case, or take those of an earlier call.

    Args:
        case: the training.
        images: folder of real images; None draws some.
        seed: of the images, the weights and the training.
        cuda: whether a card trains.
    """
    if images is not None and case.start == DEMO_START:
        case = replace(case, start=OTHER_START)  # the demo's champion knows other classes
    key = hashlib.sha256(repr((case, images, seed)).encode()).hexdigest()[:12]
    folder = WORK / "made" / key
    if images is None:
        names, items = ALL_CLASSES, drawn_items(seed + 5, case.images, case.validation_images)
    else:
        names, listed = folder_items(images, case.images, case.validation_images)
        items = iter(listed)
    data = write_both(folder / "data", names, items)
    return Ready(case, data, make_start(case.start, names, folder / "start.pt", seed), seed, cuda)


def device_name() -> str:
    """Return the card's name, or `cpu`; asked in a child, since torch is not loaded here."""
    ask = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu')"
    done = subprocess.run([sys.executable, "-c", ask], check=True, stdout=subprocess.PIPE, env=environment())
    return done.stdout.decode().strip()


def make_start(start: str, names: tuple[str, ...], out: Path, seed: int) -> Path:
    """Write the start weights, if they are not there."""
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        asked = {"start": start, "names": names, "out": str(out), "seed": seed}
        with (out.parent / "start.log").open("ab") as log:
            subprocess.run(
                module_command("start", asked),
                check=True,
                cwd=ROOT,
                env=environment(),
                stdout=log,
                stderr=log,
            )
    return out


def contend(name: str, ready: Ready, folder: Path) -> Run:
    """Train as one contender does, in an empty folder.

    Raises:
        ContenderDied: its process ended badly or took longer than half an hour.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    told = folder / "told.json"
    spec: dict[str, Any] = {"job": ready.job(folder / "out").model_dump(mode="json"), "told": str(told)}
    if name != OURS:
        spec |= {"data": str(ready.data.train_yaml), "folder": str(folder)}
        spec["threads"] = len(os.sched_getaffinity(0)) if name == EVERY_THREAD else 0
    measured = run_measured(module_command("ours" if name == OURS else "plain", spec), folder / "log.txt")
    return _run_of(json.loads(told.read_text()), measured, ready.case)


@dataclass(frozen=True, slots=True)
class Process:
    """Hold what the kernel says about a process that has ended."""

    wall_s: float
    cpu_s: float
    peak_rss_mb: float
    foreign: float
    cores: int


def study_kills(ready: Ready, kills: int, folder: Path) -> Study:
    """Run the resume study of a case: one run left alone, one killed, both measured.

    Raises:
        ContenderDied: a run did not end, or a kill did not hit.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    told = folder / "told.json"
    # Twice within an epoch of the machine this was written on, so that both kinds of checkpoints are resumed.
    job = ready.job(folder / "unused", checkpoint_minutes=ready.case.images / ready.case.rate / 2 / 60)
    spec = {"job": job.model_dump(mode="json"), "seed": ready.seed, "kills": kills, "folder": str(folder),
            "told": str(told)}  # fmt: skip
    run_measured(module_command("kills", spec), folder / "log.txt")
    found = json.loads(told.read_text())
    maps = measure_weights(ready, found.pop("weights"))
    found["kills"] = [Kill(**kill) for kill in found["kills"]]
    return Study(**found, map_whole=maps["whole"]["map"], map_killed=maps["killed"]["map"])


def run_measured(command: list[str], log: Path) -> Process:
    """Run a command to its end.

    Raises:
        ContenderDied: it ended badly or took too long.
    """
    cores = sorted(os.sched_getaffinity(0))
    began, busy = time.monotonic(), core_busy_s(cores)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
    code, usage = _wait(process)
    wall = time.monotonic() - began
    if code != 0:
        raise ContenderDied(f"status {code}; {log} ends: {log.read_text(errors='replace')[-1500:]}")
    cpu = usage.ru_utime + usage.ru_stime
    foreign = max(0.0, core_busy_s(cores) - busy - cpu) / (wall * len(cores))
    return Process(wall, cpu, usage.ru_maxrss / 1024, foreign, len(cores))


def environment() -> dict[str, str]:
    """Return the environment of every contender: nobody's threads are set, and nobody asks the network."""
    settings = WORK / "ultralytics"
    settings.mkdir(parents=True, exist_ok=True)
    quiet = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "False", "WANDB_MODE": "disabled",
             "YOLO_CONFIG_DIR": str(settings), "MPLCONFIGDIR": str(settings)}  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name not in _THREADS}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**kept, **quiet, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def measure_weights(ready: Ready, weights: dict[str, str]) -> dict[str, dict[str, float]]:
    """Return mAP50 and mAP50-95 of some weights on the images kept for it, by one evaluator."""
    asked = {"data": str(ready.data.measure_yaml), "size": ready.case.size, "weights": weights}
    with (WORK / "evaluate.log").open("ab") as log:
        done = subprocess.run(module_command("evaluate", asked), check=True, cwd=ROOT, env=environment(),
                              stdout=subprocess.PIPE, stderr=log)  # fmt: skip
    told: dict[str, dict[str, float]] = json.loads(done.stdout.decode().splitlines()[-1])
    return told


def module_command(name: str, spec: dict[str, Any]) -> list[str]:
    """Return the command that runs one of this bench's children."""
    return [sys.executable, "-m", f"bench.train_parts.{name}", json.dumps(spec)]


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, Any]:
    """Wait without polling, so that the measured cores are left alone; the limit is the kernel's alarm."""
    killer = subprocess.Popen(
        ["sh", "-c", f"sleep {LIMIT_S:.0f}; kill -9 {process.pid}"], start_new_session=True
    )
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        os.killpg(killer.pid, 9)
        killer.wait()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def _run_of(told: dict[str, Any], measured: Process, case: Case) -> Run:
    losses = [sum(one.values()) for one in told["losses"]]
    return Run(
        total_s=measured.wall_s - told["uncounted_s"],
        steady_s=steady_seconds(told["epoch_ends"]),
        cpu_s=measured.cpu_s,
        cores=measured.cores,
        peak_rss_mb=measured.peak_rss_mb,
        foreign=measured.foreign,
        images=case.images * (case.epochs - 1),
        wait_share=told["data_wait_share"],
        loss_first=losses[0],
        loss_last=losses[-1],
        weights=told["weights"],
        peak_device_mb=told.get("peak_device_bytes", 0) / 2**20,
        settings=told.get("settings", {}),
    )
