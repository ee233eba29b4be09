"""Show a log on standard output as far as somebody reads it: whoever does not must hold nobody up."""

from __future__ import annotations

import os
import select
import sys
import time
from typing import BinaryIO


def show(log: BinaryIO, seconds: float) -> int:
    """Write what a log still holds to standard output and return how many bytes went.

    Args:
        log: read from where it stands.
        seconds: how long to wait for a reader that is slow.
    """
    if sys.stdout is None:
        return 0
    output, until, shown = sys.stdout.fileno(), time.monotonic() + seconds, 0
    # A pipe that takes anything takes this much without making its writer wait.
    while content := log.read(select.PIPE_BUF):
        left = max(until - time.monotonic(), 0.0)
        if not select.select([], [output], [], left)[1]:
            break
        shown += os.write(output, content)
    return shown
