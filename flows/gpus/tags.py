"""Name machines so that an account can be searched for ours, and ours be told from another installation's.

>>> tag_of("plant7", "lease-0011223344556677")
'ws-plant7-0011223344556677'
>>> lease_in("plant7", "ws-plant7-0011223344556677")
'lease-0011223344556677'
"""

from __future__ import annotations

import re

PREFIX = "ws"
_LEASE = "lease-"


def tag_of(installation: str, lease_id: str) -> str:
    """Return what a lease's machine is called: lower case letters, digits and dashes, at most 40 of them."""
    return f"{PREFIX}-{installation}-{lease_id.removeprefix(_LEASE)}"


def lease_in(installation: str, name: str) -> str | None:
    """Return the lease of a machine of this installation by its name, None for anybody else's machine."""
    found = re.fullmatch(rf"{PREFIX}-{re.escape(installation)}-([0-9a-f]{{16}})", name)
    return f"{_LEASE}{found.group(1)}" if found else None
