"""Kill one run at random moments, drawn before it starts, and compare its end with an unkilled run's.

(1) train without a kill; (2) draw the moments over its length, in epochs; (3) train again from nothing and
SIGKILL the training child when it has come so far, asserting each time that it was alive; (4) measure both
weights with one evaluator.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.backend import run_to_end
from trainer.backend_job import BackendEvent, BackendJob
from trainer.dataset import open_dataset

CHILD = b"trainer.ultralytics_backend.child"
POLL_S = 0.01


def draw_moments(seed: int, epochs: int, kills: int) -> list[float]:
    """Draw moments over a run's length, in epochs, in order; nothing about the run can move them."""
    draw = random.Random(f"kills/{seed}")
    return sorted(round(draw.uniform(0.0, epochs), 4) for _ in range(kills))


@dataclass(frozen=True, slots=True)
class Kill:
    """Hold one kill.

    Attributes:
        asked: the drawn moment, in epochs.
        at: how far training had come when the signal was sent, as far as its parent could tell.
        pid: the child that was alive then.
        done: epochs whose end had been told.
        resumed: where the next child went on, in epochs.
        proven: whether that child's live weights had the hash that the dead one had told; None where it had
            told none, or died before its first checkpoint.
    """

    asked: float
    at: float
    pid: int
    done: int
    resumed: float
    proven: bool | None

    @property
    def lost(self) -> float:
        """Return how much had to be trained again, in epochs."""
        return max(0.0, self.at - self.resumed)


@dataclass(slots=True)
class Progress:
    """Tell from events and a clock how far a run has come, in epochs; never past an end not told.

    `start_s` is what a child needs from its first words to its first batch, `images` an epoch's images.
    """

    epoch_s: float
    start_s: float
    images: int
    done: int = 0
    base: float = 0.0
    since: float | None = None

    def heard(self, event: BackendEvent, now: float) -> None:
        """Take note of an event."""
        if event.kind == "started":
            self.base, self.since = float(self.done), now + self.start_s
        elif event.kind in {"epoch", "checkpoint", "resumed"}:
            self.done = max(self.done, event.epoch)
            self.base, self.since = self.position_of(event), now

    def position_of(self, event: BackendEvent) -> float:
        """Return the place that an event tells of: whole epochs and images of the next one."""
        within = 0 if event.kind == "epoch" else int(event.data.get("images", 0))
        return event.epoch + within / self.images

    def at(self, now: float) -> float:
        """Return how far the run has come."""
        if self.since is None:
            return self.base
        within = min((now - self.since) / self.epoch_s, int(self.base) + 0.999 - self.base)
        return self.base + max(0.0, within)

    def died(self) -> None:
        """Take note that the child is gone: nothing moves until the next one has started."""
        self.since = None


@dataclass(frozen=True, slots=True)
class Study:
    """Hold what the study found; mAP50-95 as a share."""

    epochs: int
    epoch_s: float
    checkpoint_minutes: float
    moments: list[float]
    kills: list[Kill]
    same_weights: bool
    seconds_whole: float
    seconds_killed: float
    map_whole: float
    map_killed: float

    @property
    def map_delta(self) -> float:
        """Return by how many points of 100 the killed run's mAP50-95 differs."""
        return abs(self.map_killed - self.map_whole) * 100

    @property
    def worst_loss(self) -> float:
        """Return the most that one kill cost, in epochs."""
        return max((kill.lost for kill in self.kills), default=0.0)


class Killer:
    """Follow a run's events and kill its child at the drawn moments, each exactly once."""

    def __init__(self, moments: list[float], progress: Progress) -> None:
        self._left = list(moments)
        self._progress = progress
        self._lock = threading.Lock()
        self._open: dict[str, Any] | None = None
        self._reborn = False
        self._hashes: dict[float, str] = {}
        self._over = threading.Event()
        self.kills: list[Kill] = []
        self._thread = threading.Thread(target=self._watch, name="killer", daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def listen(self, event: BackendEvent) -> None:
        """Take note of an event, and settle the last kill when the next child goes on."""
        with self._lock:
            self._reborn = self._reborn or event.kind == "started"
            self._progress.heard(event, time.monotonic())
            place = self._progress.position_of(event)
            if event.kind == "resumed" and self._open is not None:
                told = self._hashes.get(place)
                self._settle(place, None if told is None else told == event.data.get("weights"))
            elif event.kind in {"epoch", "checkpoint"}:
                self._hashes[place] = str(event.data.get("weights", ""))
                if self._open is not None and self._reborn:
                    self._settle(0.0, None)

    def _settle(self, resumed: float, proven: bool | None) -> None:  # noqa: FBT001 - a row's last column
        assert self._open is not None
        told, self._open = self._open, None
        self.kills.append(Kill(**told, resumed=resumed, proven=proven))

    def _watch(self) -> None:
        while not self._over.wait(POLL_S) and (self._left or self._open):
            with self._lock:
                if self._open is None and self._left and self._progress.at(time.monotonic()) >= self._left[0]:
                    self._kill()

    def _kill(self) -> None:
        pid = training_child()
        if pid is None:
            return  # between two children: the moment waits for the next
        at = self._progress.at(time.monotonic())
        os.kill(pid, signal.SIGKILL)
        self._open = {"asked": self._left.pop(0), "at": at, "pid": pid, "done": self._progress.done}
        self._progress.died()
        self._reborn = False


def training_child(parent: int | None = None) -> int | None:
    """Return the pid of a process's living training child."""
    parent = os.getpid() if parent is None else parent
    children = Path(f"/proc/{parent}/task").glob("*/children")
    for pid in (int(word) for path in children for word in path.read_text().split()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if CHILD in command and state not in {"Z", "X"}:
            return pid
    return None


def killed_run(job: BackendJob, moments: list[float], progress: Progress) -> tuple[Any, Killer]:
    """Train to the end although the child is killed at the moments, and return result and killer.

    Raises:
        AssertionError: a moment passed without a kill.
    """
    with Killer(moments, progress) as killer:
        result = run_to_end(job, killer.listen, restarts=len(moments) + 3)
    missed = len(moments) - len(killer.kills)
    assert missed == 0, f"{missed} of {len(moments)} kills did not hit a living child"
    return result, killer


def main() -> int:
    """Be the child that holds the study, since `run_to_end` needs a process to be the parent of.

    python -m bench.train_parts.kills '{"job": {...}, "seed": 0, "kills": 10, "folder": ..., "told": ...}'
    """
    spec = json.loads(sys.argv[1])
    job, folder = BackendJob.model_validate(spec["job"]), Path(spec["folder"])
    marks: dict[str, float] = {}
    ends: list[float] = []

    def listen(event: BackendEvent) -> None:
        marks[event.kind] = time.monotonic()
        if event.kind == "epoch":
            ends.append(time.monotonic())
        elif event.kind == "started":
            marks["first"] = time.monotonic()

    began = time.monotonic()
    whole = run_to_end(job.model_copy(update={"out": folder / "whole"}), listen)  # (1)
    seconds_whole = time.monotonic() - began
    moments = draw_moments(spec["seed"], job.epochs, spec["kills"])  # (2)
    epoch_s = (ends[-1] - ends[0]) / (len(ends) - 1)
    start_s = max(0.0, ends[0] - marks["first"] - epoch_s)
    progress = Progress(epoch_s, start_s, open_dataset(job.dataset).train_images)
    began = time.monotonic()
    killed, killer = killed_run(job.model_copy(update={"out": folder / "killed"}), moments, progress)  # (3)
    told = {
        "epochs": job.epochs, "epoch_s": epoch_s, "checkpoint_minutes": job.checkpoint_minutes,
        "moments": moments, "kills": [asdict(kill) for kill in killer.kills],
        "same_weights": whole.weights_sha256 == killed.weights_sha256,
        "seconds_whole": seconds_whole, "seconds_killed": time.monotonic() - began,
        "weights": {"whole": str(whole.weights), "killed": str(killed.weights)},
    }  # fmt: skip
    Path(spec["told"]).write_text(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
