"""Be the outer edge of the child: turn what ended the job into a document, also without memory to do it in.

(1) Give back the spare memory that was kept for this.
(2) Recognise the error while it still holds what it held: what is seen now is what was taken.
(3) Let go of the frames, and with them of model, batch and graph.
(4) Write the document, one process after the other: devices that train together run out of memory at the same
    step. One about memory is not overwritten, least of all by what its end brings down elsewhere.
"""

from __future__ import annotations

import fcntl
import gc
import resource
import sys
import traceback
from pathlib import Path

import psutil

from trainer.backend_job import FAILURE_FILE, BackendFailure, BackendJob, write_whole
from trainer.errors import MemoryExhausted, MemoryNear
from trainer.memory import DeviceMemory, HostMemory, Recognised, Room, recognise
from trainer.ultralytics_backend.moments import Moments

_LOCK_FILE = "failure.lock"
_SPARE_BYTES = 16 * 2**20
_SHORT_SHARE = 0.08
"""Of a memory: with less than this free, an error that only sometimes means memory is taken to mean it."""


class Edge:
    """Keep what a report needs, from before the work that may end in one.

    `moments` is where the work marks where it is; `device` is the card's memory, once there is one.
    """

    def __init__(self) -> None:
        self.moments = Moments()
        self.device: DeviceMemory | None = None
        self._host = HostMemory()
        self._cap_before: tuple[int, int] | None = None
        self._spare = bytearray(_SPARE_BYTES)

    def open(self, job: BackendJob) -> None:
        """Watch the memory that a training may run out of, and cap it where the job says so."""
        import torch

        from trainer.ultralytics_backend.cuda_memory import CudaMemory
        from trainer.ultralytics_backend.simulated_memory import SimulatedCard

        if job.simulated_memory is not None:
            card = SimulatedCard(job.simulated_memory, job.start)
            self.device, self.moments.watcher = card, card
        elif torch.cuda.is_available():
            cuda = CudaMemory(job.memory_share)
            cuda.cap()
            self.device = cuda
        if job.host_budget_bytes:
            import torch._inductor  # ultralytics' trainer loads it; a library is no part of the budget

            mapped = psutil.Process().memory_info().vms
            self._cap_before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (mapped + job.host_budget_bytes, self._cap_before[1]))

    def training_done(self) -> None:
        """Go on to the export, for which the caps of training do not hold."""
        self.moments.moment = "export"
        self.moments.watcher = None
        if self._cap_before is not None:
            resource.setrlimit(resource.RLIMIT_AS, self._cap_before)

    def report(self, error: BaseException, out: Path) -> BackendFailure:
        """Write why the job ended."""
        # (1)
        self._spare = bytearray()
        # (2)
        failure = self._failure(error)
        _print(error)
        # (3)
        _let_go(error)
        # (4)
        path = out / FAILURE_FILE
        with (out / _LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _tells_of_memory(path):
                write_whole(path, failure.model_dump_json().encode())
        return failure

    def _failure(self, error: BaseException) -> BackendFailure:
        name, message = type(error).__name__, str(error)[:2000]
        if isinstance(error, MemoryNear):
            where = {"moment": "watch", "epoch": self.moments.epoch, "step": self.moments.step}
            return BackendFailure.model_validate({
                "error": name, "message": message, "kind": error.kind, "seen_bytes": error.seen_bytes,
                "limit_bytes": error.limit_bytes, "origin": name, **where,
            })  # fmt: skip
        found = recognise(error, Room(_short(self.device), _short(self._host)))
        if found is None:
            return BackendFailure(error=name, message=message, resumable=getattr(error, "resumable", True))
        return self._exhausted(found, name, message)

    def _exhausted(self, found: Recognised, name: str, message: str) -> BackendFailure:
        memory = self.device if found.kind == "device" else self._host
        return BackendFailure(
            error=MemoryExhausted.__name__, message=message, kind=found.kind, moment=self.moments.moment,
            epoch=self.moments.epoch, step=self.moments.step, asked_bytes=found.asked_bytes,
            seen_bytes=memory.used() if memory else 0, limit_bytes=memory.total() if memory else 0,
            cause=found.cause, origin=name,
        )  # fmt: skip


def be_killed_first() -> None:
    """Ask the kernel to prefer this process where it must kill one, so that the parent lives to go on."""
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError as error:  # a container may forbid it; the kernel then chooses by size alone
        sys.stderr.write(f"the kernel's choice stays as it is: {error}\n")


def _print(error: BaseException) -> None:
    """Write the traceback into the log, as far as memory allows."""
    try:
        traceback.print_exception(error)
    except MemoryError:
        sys.stderr.write("a traceback could not be printed for want of memory\n")


def _let_go(error: BaseException) -> None:
    one: BaseException | None = error
    for _ in range(8):
        if one is None:
            break
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _short(memory: DeviceMemory | None) -> bool:
    return memory is not None and memory.free() < memory.total() * _SHORT_SHARE


def _tells_of_memory(path: Path) -> bool:
    """Say whether another process of this training has already told that memory ran out."""
    try:
        return bool(BackendFailure.model_validate_json(path.read_bytes()).kind)
    except (OSError, ValueError):
        return False
