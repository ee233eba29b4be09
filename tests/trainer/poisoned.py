"""Be a training child whose weights stop being numbers: `python -m tests.trainer.poisoned JOB PID EPOCH TIMES`.

The child is the real one; at the first step of the epoch one weight becomes NaN, so many times.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from trainer.backend_job import read_job
from trainer.ultralytics_backend import child, environment

FIRED = "poisoned a weight"


def main(arguments: list[str]) -> int:
    """Do the job, poisoning."""
    at, left = int(arguments[2]), int(arguments[3])

    def with_poison(*positional: Any, on_moment: Any, **named: Any) -> Any:
        def hear(trainer: Any, moment: str) -> None:
            nonlocal left
            on_moment(trainer, moment)
            if left and moment == "forward" and (trainer.epoch + 1, trainer.place.step) == (at, 1):
                left -= 1
                next(trainer.model.parameters()).data[0] = float("nan")
                print(FIRED, flush=True)

        return real(*positional, on_moment=hear, **named)

    job = read_job(Path(arguments[0]))
    environment.prepare(job.out / "ultralytics-config", threads=job.threads, niceness=0)
    from trainer.ultralytics_backend import training

    real, training.train = training.train, with_poison
    return child.main(arguments[:2])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
