"""Start the training child, follow its events, and turn its end into a result or an error.

Everything that imports torch happens over there; here are a process, a file that is tailed, and an exit code.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from trainer.backend_job import (
    EVENTS_FILE,
    FAILURE_FILE,
    JOB_FILE,
    LOG_FILE,
    RESULT_FILE,
    STEPS_FILE,
    BackendEvent,
    BackendFailure,
    BackendJob,
    BackendResult,
    ExportJob,
    write_whole,
)
from trainer.errors import BackendFailed, CheckpointLost, MemoryExhausted, StartRefused, StoodStill
from trainer.following import EventTail, OnEvent, Stop, Vigil, end_of_log, follow
from trainer.ladder import Descent, Ladder
from trainer.memory import Trouble
from trainer.standing_still import Stillness

__all__ = ["OnEvent", "Stop", "export_weights", "run_child", "run_to_end"]
_log = logging.getLogger("whetstone.trainer")
_LOG_SHOWN = 2000
_ENDS: dict[str, type[BackendFailed]] = {one.__name__: one for one in (StartRefused, CheckpointLost)}


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
        CheckpointLost: the job must go on from a checkpoint and there is none.
        MemoryExhausted: memory ran out; another start helps with less in the job.
        StoodStill: it made no step for half an hour and was killed.
        BackendFailed: the child failed or was killed; `resumable` says whether another start may help.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    for name in (RESULT_FILE, FAILURE_FILE):
        (job.out / name).unlink(missing_ok=True)
    write_whole(job.out / JOB_FILE, job.model_dump_json().encode())
    tail = EventTail(job.out / EVENTS_FILE, on_event)
    log_file = job.out / LOG_FILE
    begin = log_file.stat().st_size if log_file.is_file() else 0
    stillness = Stillness(job.out / STEPS_FILE)
    with log_file.open("ab") as log:
        child = subprocess.Popen(
            _command(job), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=_environment(job),
        )  # fmt: skip
    vigil = Vigil(child.pid)
    try:
        follow(child, tail, vigil, stillness, stop)
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
    tail.read()
    end = end_of_log(log_file, begin)
    if stillness.was_too_long and child.returncode != 0:
        raise _stood_still(stillness.longest, child.returncode, f"{log_file}; it ends: {end[-_LOG_SHOWN:]}")
    return _outcome(job, child.returncode, end, vigil.trouble(child.returncode, end))


def run_to_end(
    job: BackendJob,
    on_event: OnEvent | None = None,
    *,
    restarts: int = 3,
    stop: Stop | None = None,
    ladder: Ladder | None = None,
) -> BackendResult:
    """Do a job, starting the child again where it died, as long as epochs are gained or memory can be saved.

    Where memory ran out, the next child does less of what needs it, from the last checkpoint; the rungs taken
    are kept in the job's folder and told as "rung" events.

    Args:
        job: the work, with `resume` set.
        on_event: told about every event.
        restarts: starts in a row that may die without keeping more of the training; those for want of memory
            do not count, since the ladder ends.
        stop: when set, the child is killed and no other is started.
        ladder: how far the job may be changed for want of memory, and what was changed before.

    Raises:
        StartRefused: the start weights do not fit.
        LadderExhausted: memory ran out and nothing was left to change; the message holds every rung.
        BackendFailed: the child died `restarts + 1` times at the same epoch.
    """
    gains = _Gains(restarts)
    descent = Descent(job, ladder or Ladder(), on_event or (lambda _event: None))

    def listen(event: BackendEvent) -> None:
        gains.heard(event)
        descent.heard(event)
        if on_event is not None:
            on_event(event)

    while True:
        try:
            return run_child(descent.job, listen, stop=stop)
        except BackendFailed as error:
            stopped = stop is not None and stop.is_set()
            if not error.resumable or stopped:
                raise
            training = gains.epochs < job.epochs
            if training and isinstance(error, MemoryExhausted) and error.trouble.moment != "export":
                descent.step_down(_placed(error.trouble, gains.epochs))
                continue
            if isinstance(error, StoodStill):
                listen(_news_of(error, gains.epochs))
            # An export that had no room has it in a fresh process, which trains nothing before.
            if gains.left <= 0:
                raise
            gains.left -= 1
            _log.warning(
                "trainer.child_restarted exit_code=%s epoch=%s left=%s",
                error.exit_code, gains.epochs, gains.left,
            )  # fmt: skip


class _Gains:
    """Count how far a training is, and the starts it may still lose before it gets further."""

    def __init__(self, restarts: int) -> None:
        self._restarts = restarts
        self._best = (-1, 0)
        self.left = restarts

    @property
    def epochs(self) -> int:
        """Return the epochs that are kept, -1 before anybody told."""
        return self._best[0]

    def heard(self, event: BackendEvent) -> None:
        """Take down what a child keeps; more of it than ever gives every restart back."""
        at = (event.epoch, int(event.data.get("images", 0)))
        if event.kind in ("epoch", "checkpoint") and at > self._best:
            self._best, self.left = at, self._restarts
        if event.kind == "resumed":
            self._best = max(self._best, at)


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


def _command(job: BackendJob | ExportJob) -> list[str]:
    """Return how the child is started on a job; it dies with the process that starts it."""
    several = isinstance(job, BackendJob) and job.devices > 1
    module = f"trainer.ultralytics_backend.{'several' if several else 'child'}"
    return [sys.executable, "-m", module, str(job.out / JOB_FILE), str(os.getpid())]


def _environment(job: BackendJob | ExportJob) -> dict[str, str]:
    """Return the child's environment: ours, with this installation's packages first."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    capped = isinstance(job, BackendJob) and job.host_budget_bytes > 0
    # glibc reserves 64 MiB of address space for every thread's arena, which a cap would count.
    arenas = {"MALLOC_ARENA_MAX": "1"} if capped else {}
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **arenas}


def _outcome(
    job: BackendJob | ExportJob, exit_code: int, end: str, seen_from_outside: Trouble | None
) -> BackendResult:
    result = job.out / RESULT_FILE
    if exit_code == 0 and result.is_file():
        return BackendResult.model_validate_json(result.read_bytes())
    failure = _failure_in(job.out)
    where = str(job.out / LOG_FILE)
    if failure is not None:
        error = _told(failure, where)
    elif seen_from_outside is not None:
        error = _exhausted(seen_from_outside, where)
    else:
        error = BackendFailed(expected="a finished job", got=_death_of(exit_code, end), where=where)
    error.exit_code = exit_code
    raise error


def _failure_in(folder: Path) -> BackendFailure | None:
    """Return what a child wrote about its end; None where it wrote nothing that can be read."""
    try:
        return BackendFailure.model_validate_json((folder / FAILURE_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("trainer.failure_unreadable folder=%s error=%s", folder, error)
        return None


def _told(failure: BackendFailure, where: str) -> BackendFailed:
    """Return the error that a child's own words mean."""
    if failure.kind:
        return _exhausted(
            Trouble(
                kind=failure.kind, moment=failure.moment, epoch=failure.epoch, step=failure.step,
                seen_bytes=failure.seen_bytes, limit_bytes=failure.limit_bytes,
                asked_bytes=failure.asked_bytes, cause=failure.cause, error=failure.origin,
                message=failure.message,
            ), where,
        )  # fmt: skip
    kind = _ENDS.get(failure.error, BackendFailed)
    error = kind(expected="a finished job", got=f"{failure.error}: {failure.message}", where=where)
    error.resumable = failure.resumable
    return error


def _exhausted(trouble: Trouble, where: str) -> MemoryExhausted:
    got = f"{trouble.in_words()} ({trouble.message[:500]})"
    error = MemoryExhausted(expected="a finished job", got=got, where=where)
    error.trouble = trouble
    return error


def _placed(trouble: Trouble, last_epoch: int) -> Trouble:
    """Return the trouble with the epoch it came in, where the child could not say and one was done before."""
    return trouble if trouble.epoch or last_epoch < 1 else replace(trouble, epoch=last_epoch + 1)


def _stood_still(longest: float, exit_code: int, where: str) -> StoodStill:
    within = f"a step of the training within {longest / 60:.0f} minutes"
    error = StoodStill(expected=within, got="none, so the child was ended", where=where)
    error.exit_code = exit_code
    return error


def _news_of(error: StoodStill, last_epoch: int) -> BackendEvent:
    told = {"kind": "stood-still", "why": f"expected {error.expected}, got {error.got}"}
    return BackendEvent("watch", max(last_epoch, 0), told)


def _death_of(exit_code: int, end: str) -> str:
    cause = f"{signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit status {exit_code}"
    return f"{cause}; the log ends: {end[-_LOG_SHOWN:]}"
