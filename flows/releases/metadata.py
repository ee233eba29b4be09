"""Make, sign and check TUF documents: values in, bytes out, no bucket and no files.

Only the stable part of python-tuf is used (`tuf.api.metadata`); how a client walks from root to target
is in `edge_agent/ota/tuf_client.py`.

    >>> role_name("boards", "stable")
    'boards.stable'
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from flows.releases.errors import RepositoryDamaged
from flows.releases.keys import OfflineKeys, OnlineKeys

S = TypeVar("S", Root, Targets, Snapshot, Timestamp)
HASHES = ["sha256"]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Say how long each role's metadata is believed.

    The timestamp's life bounds how long a box can be kept on old news without noticing. The offline roles
    live long, since renewing them takes a person.
    """

    offline: timedelta = timedelta(days=3650)
    channel: timedelta = timedelta(days=365)
    snapshot: timedelta = timedelta(days=365)
    timestamp: timedelta = timedelta(days=7)


def role_name(task_id: str, channel: str) -> str:
    """Return the delegated role that speaks for a task's channel."""
    return f"{task_id}.{channel}"


def new_root(offline: OfflineKeys, online: OnlineKeys, expires: datetime) -> bytes:
    """Make and sign the first root: which key speaks for which role."""
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    signers = {"root": offline.root, "targets": offline.targets,
               "snapshot": online.snapshot, "timestamp": online.timestamp}
    for role, signer in signers.items():
        root.add_key(signer.public_key, role)
    return sign(root, offline.root)


def delegate(targets: Targets, role: str, key: Key) -> None:
    """Let `key` speak for everything below the folder of one task's channel, and for nothing else."""
    folder = role.replace(".", "/", 1)
    delegated = DelegatedRole(role, [], 1, terminating=True, paths=[f"{folder}/*", f"{folder}/*/*"])
    if targets.delegations is None:
        targets.delegations = Delegations({}, roles={})
    roles = targets.delegations.roles
    assert roles is not None, "we never make succinct roles"
    roles[role] = delegated
    targets.add_key(key, role)


def sign(signed: Root | Targets | Snapshot | Timestamp, signer: CryptoSigner) -> bytes:
    """Sign one document and return its bytes."""
    document: Metadata[Any] = Metadata(signed)
    document.sign(signer)
    return document.to_bytes()


def read(kind: type[S], content: bytes, key: Key, *, where: str) -> S:
    """Read a document that must carry a signature by `key`.

    What is read is built upon and signed again, so it must not matter who can write to the bucket.

    Raises:
        RepositoryDamaged: torn, of another kind, or not signed by our key.
    """
    try:
        document = Metadata[S].from_bytes(content)
        signature = document.signatures[key.keyid]
        key.verify_signature(signature, document.signed_bytes)
    except (RepositoryError, SecureSystemsError, KeyError) as error:
        raise RepositoryDamaged(
            expected=f"{kind.type} metadata signed by our key {key.keyid[:12]}",
            got=f"{type(error).__name__}: {error}", where=where,
            now="Restore the object from a backup, or find out who else writes to this bucket.") from error
    if not isinstance(document.signed, kind):
        raise RepositoryDamaged(expected=f"{kind.type} metadata", got=document.signed.type, where=where)
    return document.signed


def meta_of(version: int, content: bytes) -> MetaFile:
    """Describe a metadata file for the snapshot or timestamp that points to it."""
    return MetaFile.from_data(version, content, HASHES)


def target_of(path: str, content: bytes) -> TargetFile:
    """Describe a target file by length and hash."""
    return TargetFile.from_data(path, content, HASHES)


def hashed_path(target: TargetFile) -> str:
    """Return where a target lies under `targets/`: its file name carries its hash."""
    return target.get_prefixed_paths()[0]
