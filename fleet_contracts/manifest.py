"""Write and read a snapshot's manifest: a header line, then one member a line, sorted by sample id.

The snapshot's id is the SHA-256 of exactly these bytes, so a manifest cannot change under its name.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet_contracts.base import decode, encode
from fleet_contracts.errors import MalformedDocument
from fleet_contracts.ids import sha256_of
from fleet_contracts.training import SnapshotHeader, SnapshotMember


def encode_manifest(header: SnapshotHeader, members: Iterable[SnapshotMember]) -> tuple[str, bytes]:
    """Return the snapshot's id and the manifest's bytes.

    Raises:
        MalformedDocument: `header.members` differs from the number of members, or a group spans
            two splits (its pictures would leak from training into evaluation).
    """
    rows = sorted(members, key=lambda member: member.sample_id)
    _require_consistent(header, rows, where="manifest to be written")
    content = b"\n".join([encode(header), *(encode(row) for row in rows)]) + b"\n"
    return sha256_of(content), content


def decode_manifest(content: bytes, *, where: str) -> tuple[SnapshotHeader, tuple[SnapshotMember, ...]]:
    """Read a manifest.

    Raises:
        MalformedDocument: a line does not parse, the count is wrong (a torn file), or a group
            spans two splits.
    """
    lines = content.splitlines()
    if not lines:
        raise MalformedDocument(expected="a header line", got="an empty file", where=where)
    header = decode(SnapshotHeader, lines[0], where=f"{where} line 1")
    members = tuple(
        decode(SnapshotMember, line, where=f"{where} line {number}")
        for number, line in enumerate(lines[1:], start=2)
    )
    _require_consistent(header, members, where=where)
    return header, members


def _require_consistent(header: SnapshotHeader, members: Iterable[SnapshotMember], *, where: str) -> None:
    split_of: dict[str, str] = {}
    count = 0
    for member in members:
        count += 1
        if split_of.setdefault(member.group_id, member.split) != member.split:
            raise MalformedDocument(
                expected=f"group {member.group_id} in one split",
                got=f"{split_of[member.group_id]} and {member.split}",
                where=where,
            )
    if count != header.members:
        raise MalformedDocument(expected=f"{header.members} members", got=f"{count}", where=where)
