"""Remember the newest metadata versions this box has ever believed, and refuse older ones.

python-tuf takes a torn cache file for an absent one, so after a power loss a replayed older timestamp
would be believed (its cache is not flushed either). This floor is kept apart, flushed before anything new
is used, and holds versions of metadata, never of releases: going back to an older release is legitimate.

    >>> floor = Floor().raised({"timestamp": Seen(4, ("k",))})
    >>> floor.check({"timestamp": Seen(5, ("k",))})
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.ota.errors import MetadataRefused


@dataclass(frozen=True, slots=True)
class Seen:
    """Say which version of a role was believed, and which keys vouched for that number.

    New keys start counting anew: otherwise a thief who once signed version 2 billion would have locked the
    box out for good (fast-forward attack).
    """

    version: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Floor:
    """Hold what was seen of every role."""

    roles: Mapping[str, Seen] = field(default_factory=dict)

    def check(self, found: Mapping[str, Seen]) -> None:
        """Check that nothing went back.

        Raises:
            MetadataRefused: a role has a lower version than before, or is gone.
        """
        for role, seen in self.roles.items():
            # A role that vanished under the same snapshot keys is a rollback, too.
            now = found.get(role) or Seen(0, found.get("snapshot", seen).keys)
            if now.keys == seen.keys and now.version < seen.version:
                raise MetadataRefused(
                    expected=f"{role} version {seen.version} or newer", got=f"version {now.version}",
                    where="release metadata",
                    now="Somebody replays old metadata, or the repository was restored from a backup.")

    def raised(self, found: Mapping[str, Seen]) -> Floor:
        """Return the floor after `found` was believed."""
        return Floor(dict(found))

    def to_bytes(self) -> bytes:
        """Write the floor as JSON."""
        rows = {role: {"version": seen.version, "keys": list(seen.keys)} for role, seen in self.roles.items()}
        return json.dumps({"roles": rows}, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Floor:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: the content is not a floor.
        """
        try:
            rows = json.loads(content)["roles"]
            return cls({str(role): Seen(int(row["version"]), tuple(map(str, row["keys"])))
                        for role, row in rows.items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a floor: {error}") from error
