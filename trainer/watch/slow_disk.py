"""Be a disk that takes its time: a simulator, for tests and for people who want to see the watch at work.

The environment variable `WHETSTONE_SLOW_DISK` holds the seconds that each image takes to read. An image that
the loader has in memory costs nothing, as on a real disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

SLOW_DISK = "WHETSTONE_SLOW_DISK"


def wait_for_disk(environment: Mapping[str, str] = os.environ) -> None:
    """Wait as long as the simulated disk takes for one image; not at all without one."""
    seconds = environment.get(SLOW_DISK)
    if seconds:
        time.sleep(float(seconds))
