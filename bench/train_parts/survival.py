"""Run one listed crash: plain, ours down the ladder, and ours planned right from the start.

(1) an uncapped epoch of plain training measures what it takes, and so how large the card is made;
(2) plain training on that card, which is expected to die;
(3) our run on that card, which steps down;
(4) our run with the settings that (3) ended with, from the start: what a plan that had known would cost.

Where there is no card, (1) and (2) are left out and (3) meets a simulated one: that shows the way down, the
records and the time, and nothing about how much memory anything needs.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.train_parts.contend import ROOT, ContenderDied, module_command, run_measured
from bench.train_parts.crashes import EPOCHS, FROM_THE_START, IMAGES, Crash
from bench.train_parts.crowds import NAMES, crowded_items
from bench.train_parts.data import TwoLayouts, write_both
from trainer.backend_job import BackendJob
from trainer.memory import Load, Room, SimulatedMemory, Surge, recognise_text

SIMULATED = "simulated, CPU"
MIB = 2**20
SMALL_SIZE, SMALLER = 128, 64
SMALL_START = "tests/trainer/tiny.yaml"
"""What a simulated run trains instead: the way down does not depend on the network."""


@dataclass(frozen=True, slots=True)
class Row:
    """Hold what became of one crash; seconds are of whole processes.

    Attributes:
        on: the card's name, or that it was simulated.
        plain_died: None where plain training was not run.
        plain_epochs: that it had finished.
        start_s: what one start of the training child costs until its first batch; left out once.
    """

    name: str
    on: str
    moment: str
    cap_mb: float
    plain_died: bool | None
    plain_epochs: int
    plain_says: str
    survived: bool
    epochs: int
    ours_s: float
    planned_s: float
    start_s: float
    rungs: list[dict[str, Any]]
    says: str = ""

    @property
    def ratio(self) -> float:
        """Return our time, one process start left out, over that of a run planned right."""
        return (self.ours_s - self.start_s) / self.planned_s if self.planned_s else float("nan")

    @property
    def counts(self) -> bool:
        """Tell whether plain training died, so that surviving means something."""
        return self.plain_died is True


@dataclass(frozen=True, slots=True)
class Yard:
    """Say where crashes are run and how large; `epochs` and `images` are made small to try the code out."""

    work: Path
    cuda: bool
    epochs: int = EPOCHS
    images: int = IMAGES


def run_crash(crash: Crash, yard: Yard) -> Row:
    """Run one crash on the card there is, or on a simulated one.

    Raises:
        ContenderDied: the measuring itself failed.
    """
    folder = yard.work / crash.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        return _on_card(crash, yard, folder) if yard.cuda else _simulated(crash, yard, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def figures_of(rows: list[Row]) -> dict[str, float]:
    """Return how many of those that plain training did not survive ours did, and the worst time ratio.

    Simulated rows are counted under names of their own: nothing died there but by our own script.
    """
    told = [row for row in rows if row.counts]
    ratios = [row.ratio for row in told if row.survived]
    simulated = [row for row in rows if row.on == SIMULATED]
    return {
        "ladder.died": len(told),
        "ladder.survived": sum(row.survived for row in told),
        **({"ladder.time_ratio": round(max(ratios), 4)} if ratios else {}),
        "ladder.simulated_rows": len(simulated),
        "ladder.simulated_survived": sum(row.survived for row in simulated),
    }


def row_of(told: dict[str, Any]) -> Row:
    """Read a row back."""
    return Row(**{name: value for name, value in told.items() if name != "ratio"})


def told_of(row: Row) -> dict[str, Any]:
    """Return a row as it is kept."""
    return {**asdict(row), "ratio": round(row.ratio, 4)}


def _on_card(crash: Crash, yard: Yard, folder: Path) -> Row:
    boxes = (crash.boxes, crash.val_boxes or crash.boxes)
    data = _data(boxes, crash.size, 2 * crash.batch, yard, folder)
    job = _job(crash, data, folder / "out", yard)
    probe = _plain(job.model_copy(update={"epochs": 1}), data, folder / "probe", {"probe": True})  # (1)
    need = probe[f"{crash.of}_peak_bytes"]
    cap = int(need * crash.share)
    share = cap / probe["card_bytes"]
    tighten = {"tighten": {"epoch": crash.epoch, "share": share}}
    job = job if crash.epoch > FROM_THE_START else job.model_copy(update={"memory_share": share})
    hook = tighten if crash.epoch > FROM_THE_START else None
    died, says, plain = _plain_dies(job, data, folder / "plain", hook)  # (2)
    return _ours_and_planned(crash, job, folder, hook, {
        "on": probe["card"], "cap_mb": cap / MIB, "plain_died": died, "plain_epochs": plain,
        "plain_says": says,
    })  # fmt: skip


def _simulated(crash: Crash, yard: Yard, folder: Path) -> Row:
    data = _data((8, 8), SMALL_SIZE, 4, yard, folder)
    batch = min(crash.batch, yard.images)
    load = Load(batch, SMALL_SIZE, half=crash.precision != "fp32", mosaic=crash.augmentation == "full")
    free = SimulatedMemory(card_bytes=0)
    room = free.fixed_bytes + int((free.need(load) - free.fixed_bytes) * crash.share)
    surge = Surge(moment=crash.moment, epoch=min(crash.epoch, yard.epochs))
    card = free.model_copy(update={"card_bytes": room, "surges": (surge,)})
    job = _job(crash, data, folder / "out", yard).model_copy(
        update={"image_size": SMALL_SIZE, "start": str(ROOT / SMALL_START), "batch": batch,
                "simulated_memory": card}
    )  # fmt: skip
    return _ours_and_planned(crash, job, folder, None, {
        "on": SIMULATED, "cap_mb": room / MIB, "plain_died": None, "plain_epochs": 0,
        "plain_says": "not run",
    })  # fmt: skip


def _ours_and_planned(
    crash: Crash, job: BackendJob, folder: Path, hook: dict[str, Any] | None, told: dict[str, Any]
) -> Row:
    policy = crash.policy
    if job.simulated_memory is not None and policy:
        policy = {"smaller_images": (SMALLER,)}  # the tiny network has no smaller one
    ours, ours_s = _ours(job, folder / "ours", policy, hook)  # (3)
    survived = not ours["failed"] and ours["epochs_done"] == job.epochs
    planned_s, start_s = 0.0, 0.0
    if survived:
        right = BackendJob.model_validate(ours["final_job"]).model_copy(update={"simulated_memory": None})
        again, planned_s = _ours(right, folder / "planned", policy, hook)  # (4)
        start_s = again["epoch_ends"][0] - again["first_epoch_s"] - again["began"]
    return Row(
        name=crash.name, moment=crash.moment, survived=survived, epochs=ours["epochs_done"], ours_s=ours_s,
        planned_s=planned_s, start_s=start_s, rungs=ours["rungs"], says=ours["failed"], **told,
    )  # fmt: skip


def _data(boxes: tuple[int, int], size: int, val: int, yard: Yard, folder: Path) -> TwoLayouts:
    items = crowded_items(size, (yard.images, boxes[0]), (min(val, yard.images), boxes[1]))
    return write_both(folder / "data", NAMES, items)


def _job(crash: Crash, data: TwoLayouts, out: Path, yard: Yard) -> BackendJob:
    return BackendJob.model_validate({
        "start": crash.start, "dataset": data.ours, "out": out, "class_names": NAMES,
        **crash.job_values(cuda=yard.cuda), "epochs": yard.epochs,
    })  # fmt: skip


def _plain(job: BackendJob, data: TwoLayouts, folder: Path, more: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "told.json"
    # As many people run it: validation after every epoch, of all validation images.
    spec = {
        "job": job.model_dump(mode="json"), "told": str(told), "folder": str(folder),
        "data": str(data.measure_yaml), "changes": {"val": True}, **more,
    }  # fmt: skip
    try:
        run_measured(module_command("plain", spec), folder / "log.txt")
    finally:
        found: dict[str, Any] = json.loads(told.read_text()) if told.exists() else {}
    return found


def _plain_dies(
    job: BackendJob, data: TwoLayouts, folder: Path, hook: dict[str, Any] | None
) -> tuple[bool, str, int]:
    """Return whether plain training died of memory, what it said, and the epochs it had finished."""
    try:
        told = _plain(job, data, folder, {"hook": hook or {}})
    except ContenderDied as death:
        words = str(death)
        if recognise_text(words, Room(device_short=True)) is None:
            raise  # it died of something else, which says nothing
        csv = folder / "run" / "results.csv"
        done = max(0, len(csv.read_text().splitlines()) - 1) if csv.is_file() else 0
        return True, words[-300:], done
    return False, "it lived", len(told["epoch_ends"])


def _ours(
    job: BackendJob, folder: Path, policy: dict[str, Any], hook: dict[str, Any] | None
) -> tuple[dict[str, Any], float]:
    folder.mkdir(parents=True)
    told = folder / "told.json"
    moved = job.model_copy(update={"out": folder / "out"})
    spec = {"job": moved.model_dump(mode="json"), "told": str(told), "policy": policy}
    if hook:
        spec["hook"] = hook
    began = time.monotonic()
    run_measured(module_command("ours", spec), folder / "log.txt")
    found: dict[str, Any] = json.loads(told.read_text())
    return found, time.monotonic() - began
