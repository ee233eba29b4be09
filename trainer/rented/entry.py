"""Forget the claim: begin the same process anew, without it in the environment anybody can read.

What a process was started with stays readable in /proc/<pid>/environ whatever it does to its own copy, and
its children inherit it. So the claim goes through a pipe into a new beginning of this very process.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from fleet_contracts.renting import CLAIM

CLAIM_PIPE = "WHETSTONE_CLAIM_PIPE"
"""Number of the pipe's end that the new beginning reads the claim from."""


def forget_the_claim() -> NoReturn:
    """Replace this process by the guard."""
    kept = {name: value for name, value in os.environ.items() if name != CLAIM}
    reading, writing = os.pipe()
    # A claim is far shorter than what a pipe holds, so nobody has to read while it is written.
    os.write(writing, os.environ.get(CLAIM, "").encode()[:32_768])
    os.close(writing)
    os.set_inheritable(reading, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(  # noqa: S606 - no shell is wanted
        sys.executable,
        [sys.executable, "-m", "trainer.rented"],
        {**kept, CLAIM_PIPE: str(reading)},
    )


def take_claim() -> str:
    """Return the claim, once; nobody can read it from the pipe again."""
    number = os.environ.pop(CLAIM_PIPE, "")
    if not number:
        return ""
    with os.fdopen(int(number), "rb") as pipe:
        return pipe.read().decode()
