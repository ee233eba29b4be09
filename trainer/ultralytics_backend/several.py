"""Train on several devices: `python -m trainer.ultralytics_backend.several JOB.json PARENT_PID`.

One child for each device, started and watched by torchrun inside this process, which dies with its parent
as the children die with it. The end of any of them ends all; this process then ends as the first that failed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from trainer.backend_job import BackendJob, read_job
from trainer.ultralytics_backend import environment

_CHILD = "trainer.ultralytics_backend.child"


def main(arguments: list[str]) -> int:
    """Do the job named on the command line in as many processes as it has devices."""
    environment.die_with_parent(int(arguments[1]))
    job = read_job(Path(arguments[0]))
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    devices = job.devices if isinstance(job, BackendJob) else 1
    # Its own choice of one thread a process would stand: ours is made in the children.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = ["--standalone", "--nproc-per-node", str(devices), "--max-restarts", "0"]
    try:
        run(parse_args([*options, "-m", _CHILD, arguments[0], str(os.getpid())]))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode < 0:
            # SIGKILL where the handler of another signal would only turn it into an exit status.
            os.kill(os.getpid(), signal.SIGKILL)
        return max(int(failure.exitcode), 1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
