"""Start one child per contender and speak with it; the parent sleeps while a child works."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.edge_parts.machine import core_busy_s

ROOT = Path(__file__).resolve().parents[2]
START_S = 300.0
ANSWER_S = 1800.0


class ChildFailed(Exception):
    """Say that a contender could not start or died; the message is its own."""


@dataclass(frozen=True, slots=True)
class Block:
    """Hold one block of one contender.

    Attributes:
        ms: of each frame.
        foreign: share of the measured cores' time that other processes took.
        told: whatever else the child said.
    """

    ms: list[float]
    foreign: float
    told: dict[str, Any]

    @property
    def mean_ms(self) -> float:
        """Return the time per frame: the inverse of frames per second."""
        return sum(self.ms) / len(self.ms)


class Child:
    """Be one contender in a process of its own, pinned to `cores`."""

    def __init__(self, command: Sequence[str], spec: Mapping[str, Any], log: Path) -> None:
        self._cores: list[int] = list(spec["cores"])
        self._log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [*command, json.dumps(dict(spec))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, cwd=ROOT,
                env=child_environment(int(spec.get("threads", 1))),
            )  # fmt: skip
        try:
            self._read(START_S)
        except ChildFailed:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Let the child do something and return what it says.

        Raises:
            ChildFailed: it did not manage.
        """
        assert self._process.stdin is not None
        line = json.dumps({"do": do, **arguments}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ChildFailed(f"the child is gone; its log: {self._log}") from error
        return self._read(ANSWER_S)

    def run(self, frames: int, warm: int) -> Block:
        """Measure one block of frames."""
        began, busy = time.monotonic(), core_busy_s(self._cores)
        told = self.ask("run", frames=frames, warm=warm)
        seconds = time.monotonic() - began
        foreign = max(0.0, core_busy_s(self._cores) - busy - told["cpu_s"]) / (seconds * len(self._cores))
        return Block(told.pop("ms"), foreign, told)

    def close(self) -> None:
        """End the child; one that does not end by itself is killed."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            if not ready.select(seconds):
                raise ChildFailed(f"no answer within {seconds:g} s; log: {self._log}")
        line = self._process.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"failed": f"it died; log: {self._log}"}
        if "failed" in told:
            raise ChildFailed(told["failed"])
        return told


def python_module(name: str, python: Path | str = sys.executable) -> list[str]:
    """Return the command that runs a module of this bench, pinned from its first instruction."""
    return [str(python), "-m", "bench.edge_parts.protocol", name]


def child_environment(threads: int) -> dict[str, str]:
    """Return the children's environment: as many threads for every library, and no network."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    quiet = {"YOLO_OFFLINE": "1", "YOLO_VERBOSE": "False", "YOLO_AUTOINSTALL": "False",
             "YOLO_CONFIG_DIR": str(ROOT / ".whetstone-bench" / "ultralytics")}  # fmt: skip
    return {**os.environ, **counts, **quiet, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
