"""Become a trainer: take the run's lock, write down who we are, replace ourselves by the trainer.

Called by `local` as `python -m flows.gpus.become JSON`. The lock is a file handle that the trainer inherits
without knowing; the kernel frees it when the trainer ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path

from flows.files import write_file
from flows.up.processes import name_of

BUSY = 75
"""Exit code when another trainer of the run lives (EX_TEMPFAIL)."""


def main() -> None:
    """Replace this process by the command of the request."""
    request = json.loads(sys.argv[1])
    # (1) one trainer a run
    handle = os.open(request["lock"], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"another trainer of {request['run_id']} holds {request['lock']}\n")
        sys.exit(BUSY)
    os.set_inheritable(handle, True)
    # (2) our name is on disk before the trainer's first step: nobody can have started us and not know
    me = name_of(os.getpid())
    if me is None:
        sys.exit("this system has no /proc, so a process cannot be told from a later one")
    content = {"run_id": request["run_id"], "pid": me.pid, "start_ticks": me.start_ticks, "boot": boot_id()}
    write_file(Path(request["machine"]), json.dumps(content).encode(), mode=0o600)
    # (3) same process, same name, other program
    os.execv(request["command"][0], request["command"])  # noqa: S606 - no shell is wanted


def boot_id() -> str:
    """Return the name of this boot: process ids and ticks begin anew with the next."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


if __name__ == "__main__":
    main()
