"""Write the line a machine is started with: neither API has a field for an environment, so it stands in
front.

    (sleep 7500; /usr/bin/shutdown) & WHETSTONE_CLAIM='https:...' python -m trainer rented; /usr/bin/shutdown
    WHETSTONE_CLAIM='https:...' timeout --kill-after=60 7500 python -m trainer rented

The first is Pro's: a command that fails does not end such an instance, so the line powers it off itself,
also where the image has no Python at all. The second is a deployment's, whose container ends with its
command. Both end a little after the trainer should have ended by itself.

The claim therefore stands in the seller's record of the machine. It opens one run's ticket, for two hours,
and nothing of the account. Neither line joins commands with `&&` and `||`: AutoDL cannot stop a Job that
does.
"""

from __future__ import annotations

import re
import shlex
from datetime import datetime, timedelta

from flows.gpus.starting import Start

POWER_OFF = "/usr/bin/shutdown"
"""AutoDL's own command inside a container instance; it ends the GPU's bill and keeps the instance."""
SPARE = timedelta(minutes=5)
"""How long after its end the trainer may take to write its last words."""
LEAST = timedelta(minutes=1)
_ASSIGNED = re.compile(r"[A-Z][A-Z0-9_]*=")


def command_of_instance(start: Start, ends: datetime, now: datetime) -> str:
    """Return the `start_command` of a container instance Pro."""
    clock = f"(sleep {_seconds(ends, now)}; {POWER_OFF}) &"
    return f"{clock} {_assigned(start)} {shlex.join(start.command)}; {POWER_OFF}"


def command_of_container(start: Start, ends: datetime, now: datetime) -> str:
    """Return the `cmd` of a container of a deployment."""
    limit = f"timeout --kill-after=60 {_seconds(ends, now)}"
    return f"{_assigned(start)} {limit} {shlex.join(start.command)}"


def environment_in(command: str) -> dict[str, str]:
    """Return the assignments of such a line.

    >>> environment_in("(sleep 9; /usr/bin/shutdown) & A_B='x&y' C=1 python -m trainer; /usr/bin/shutdown")
    {'A_B': 'x&y', 'C': '1'}
    """
    words = shlex.split(command)
    assigned = [word.partition("=") for word in words if _ASSIGNED.match(word)]
    return {name: value for name, _, value in assigned}


def _assigned(start: Start) -> str:
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in start.environment.items())


def _seconds(ends: datetime, now: datetime) -> int:
    return int((max(ends - now, LEAST) + SPARE).total_seconds())
