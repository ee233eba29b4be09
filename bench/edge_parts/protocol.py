"""Be the child's side of a bench: lines of JSON come in, lines of JSON go out. Standard library only.

    python -m bench.edge_parts.protocol MODULE SPEC

pins the process before the module, and with it any library, is imported: libraries count the cores they may
use, and start threads, as soon as they are loaded. What they print goes to standard error.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Step = Callable[[int], None]


def spec_of(arguments: list[str]) -> dict[str, Any]:
    """Read what the parent wants measured."""
    spec: dict[str, Any] = json.loads(arguments[-1])
    return spec


def serve(make: Callable[[], object]) -> None:
    """Make the contender, then do what the parent asks until its end of the pipe closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        contender = make()
    except Exception as error:  # the parent tells it in the table's note
        _answer(answers, {"failed": f"{type(error).__name__}: {error}"})
        raise
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        began = os.times()
        try:
            told = getattr(contender, asked.pop("do"))(**asked) or {}
        except Exception as error:
            _answer(answers, {"failed": f"{type(error).__name__}: {error}"})
            raise
        ended = os.times()
        told["cpu_s"] = ended.user + ended.system - began.user - began.system
        _answer(answers, told)


def timed(step: Step, frames: int, warm: int) -> list[float]:
    """Return the milliseconds of each of `frames` steps, after `warm` ones that are not counted."""
    for number in range(warm):
        step(number)
    times = [0.0] * frames
    last = time.perf_counter()
    for number in range(frames):
        step(warm + number)
        now = time.perf_counter()
        times[number] = (now - last) * 1e3
        last = now
    return times


def process_facts() -> dict[str, Any]:
    """Say what this process uses: memory in MB, threads, and the cores its threads may run on."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    cores: set[int] = set()
    tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    for task in tasks:
        cores |= os.sched_getaffinity(task)
    return {
        "rss_mb": int(fields["VmRSS"].split()[0]) / 1024,
        "peak_rss_mb": int(fields["VmHWM"].split()[0]) / 1024,
        "threads": len(tasks),
        "cores": sorted(cores),
    }


def with_threads(runtime: Any, threads: int) -> None:
    """Make every session that a library opens use as many threads as ours, whatever it would choose.

    onnxruntime counts the machine's cores, not those a process is pinned to, and pins its workers itself.
    """
    open_session = runtime.InferenceSession

    def session(path_or_bytes: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> Any:
        options = sess_options or runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return open_session(path_or_bytes, options, *args, **kwargs)

    runtime.InferenceSession = session


def _answer(stream: Any, value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def main() -> None:
    """Pin this process to the cores of its spec, then run the module."""
    os.sched_setaffinity(0, spec_of(sys.argv)["cores"])
    runpy.run_module(f"bench.edge_parts.{sys.argv[1]}", run_name="__main__")


if __name__ == "__main__":
    main()
