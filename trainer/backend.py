"""Start the training child, follow its events, and turn its end into a result or an error.

Everything that imports torch happens over there; here are a process, a file that is tailed, and an exit code.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trainer.backend_job import (
    EVENTS_FILE,
    FAILURE_FILE,
    JOB_FILE,
    LOG_FILE,
    RESULT_FILE,
    BackendEvent,
    BackendFailure,
    BackendJob,
    BackendResult,
    ExportJob,
    write_whole,
)
from trainer.errors import BackendFailed, StartRefused

_log = logging.getLogger("whetstone.trainer")
OnEvent = Callable[[BackendEvent], None]
_POLL_SECONDS = 0.1
_LOG_TAIL = 2000


class Stop(Protocol):
    """Be asked whether work should end; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Say whether to end."""


def run_child(
    job: BackendJob | ExportJob, on_event: OnEvent | None = None, *, stop: Stop | None = None
) -> BackendResult:
    """Do a job in a child process and wait for it.

    Args:
        job: the work; its `out` folder is created.
        on_event: told about every event of this start, in the calling thread.
        stop: when set, the child is killed; the next call continues from its last checkpoint.

    Raises:
        StartRefused: the start weights do not fit; another start would not help.
        BackendFailed: the child failed or was killed; `resumable` says whether another start may help.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    for name in (RESULT_FILE, FAILURE_FILE):
        (job.out / name).unlink(missing_ok=True)
    write_whole(job.out / JOB_FILE, job.model_dump_json().encode())
    tail = _Tail(job.out / EVENTS_FILE, on_event)
    with (job.out / LOG_FILE).open("ab") as log:
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "trainer.ultralytics_backend.child",
                str(job.out / JOB_FILE),
                str(os.getpid()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
        )
    try:
        _follow(child, tail, stop)
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
    tail.read()
    return _outcome(job, child.returncode)


def run_to_end(
    job: BackendJob,
    on_event: OnEvent | None = None,
    *,
    restarts: int = 3,
    stop: Stop | None = None,
) -> BackendResult:
    """Do a job, starting the child again where it died, as long as epochs are gained in between.

    Args:
        job: the work, with `resume` set.
        on_event: told about every event.
        restarts: starts in a row that may die without finishing another epoch.
        stop: when set, the child is killed and no other is started.

    Raises:
        StartRefused: the start weights do not fit.
        BackendFailed: the child died `restarts + 1` times at the same epoch.
    """
    best = -1
    left = restarts

    def listen(event: BackendEvent) -> None:
        nonlocal best, left
        if event.kind == "epoch" and event.epoch > best:
            best, left = event.epoch, restarts
        if on_event is not None:
            on_event(event)

    while True:
        try:
            return run_child(job, listen, stop=stop)
        except BackendFailed as error:
            stopped = stop is not None and stop.is_set()
            if not error.resumable or left <= 0 or stopped:
                raise
            left -= 1
            _log.warning("trainer.child_restarted exit_code=%s epoch=%s left=%s", error.exit_code, best, left)


def export_weights(
    weights: Path,
    class_names: tuple[str, ...],
    image_size: int,
    out: Path,
    *,
    parity_folder: Path | None = None,
) -> BackendResult:
    """Turn a `.pt` into the ONNX file that ships.

    Args:
        weights: the checkpoint.
        class_names: the class list; the weights may know a prefix of it.
        image_size: side of the square input in pixels.
        out: folder for `model.onnx` and what belongs to it.
        parity_folder: images to compare .pt and ONNX on; none means no comparison.

    Raises:
        StartRefused: not a detection model, or its classes are no prefix of `class_names`.
        BackendFailed: the export failed.
    """
    job = ExportJob(start=weights, out=out, class_names=class_names, image_size=image_size,
                    parity_folder=parity_folder)  # fmt: skip
    return run_child(job)


def _environment() -> dict[str, str]:
    """Return the child's environment: ours, with this installation's packages first."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _follow(child: subprocess.Popen[bytes], tail: _Tail, stop: Stop | None) -> None:
    while True:
        try:
            child.wait(_POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            tail.read()
        if stop is not None and stop.is_set():
            child.kill()


def _outcome(job: BackendJob | ExportJob, exit_code: int) -> BackendResult:
    result = job.out / RESULT_FILE
    if exit_code == 0 and result.is_file():
        return BackendResult.model_validate_json(result.read_bytes())
    failure = job.out / FAILURE_FILE
    where = str(job.out / LOG_FILE)
    if failure.is_file():
        told = BackendFailure.model_validate_json(failure.read_bytes())
        kind = StartRefused if told.error == StartRefused.__name__ else BackendFailed
        error = kind(expected="a finished job", got=f"{told.error}: {told.message}", where=where)
        error.resumable = told.resumable
    else:
        error = BackendFailed(
            expected="a finished job", got=_death_of(exit_code, job.out / LOG_FILE), where=where
        )
    error.exit_code = exit_code
    raise error


def _death_of(exit_code: int, log: Path) -> str:
    tail = log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip() if log.is_file() else ""
    cause = f"{signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit status {exit_code}"
    return f"{cause}; the log ends: {tail}"


class _Tail:
    """Read whole new lines of the event file; what earlier starts wrote is skipped."""

    def __init__(self, path: Path, on_event: OnEvent | None) -> None:
        self._path = path
        self._on_event = on_event
        self._offset = path.stat().st_size if path.is_file() else 0

    def read(self) -> None:
        """Tell about every line that is whole by now."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        if self._on_event is not None:
            for line in whole.decode().splitlines():
                self._on_event(BackendEvent.from_line(line))
