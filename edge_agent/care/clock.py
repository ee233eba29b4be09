"""Compare the box's clock with a server's: signatures and certificates need one that is right."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import urllib3

from fleet_contracts.base import utc_now

SKEW_LIMIT_S: Final = 120.0
"""Beyond it presigned URLs and fresh certificates begin to fail."""
EARLIEST: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""No box of this version was started before; a clock that says so has lost its battery."""
ASK_WITHIN_S: Final = 4.0


def skew_against(url: str, ca_file: Path | None = None, *, timeout_s: float = ASK_WITHIN_S) -> float | None:
    """Return by how many seconds the box's clock is ahead of a server's, None when its answer has no date.

    Raises:
        urllib3.exceptions.HTTPError: the server does not answer.
    """
    asked = utc_now()
    authorities = None if ca_file is None else str(ca_file)
    with urllib3.PoolManager(timeout=timeout_s, retries=False, ca_certs=authorities) as pool:
        answer = pool.request("HEAD", url, redirect=False)
    answered = utc_now()
    try:
        said = parsedate_to_datetime(answer.headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    middle = asked + (answered - asked) / 2
    # A date counts whole seconds, cut off: half of one is what it is wrong by on average.
    return (middle - said).total_seconds() - 0.5


def is_synchronised() -> bool | None:
    """Tell whether the system says that a time server disciplines its clock; None when it does not say."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "show", "--property=NTPSynchronized", "--value"],
                              capture_output=True, text=True, timeout=3.0, check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip()) if done.returncode == 0 else None
