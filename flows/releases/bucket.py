"""Move TUF documents and release files between the bucket and memory; decisions are in `repository`.

Whatever is read is verified by our own online keys first: it is built upon and signed again, so who else
can write to the bucket must not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from tuf.api.metadata import Key, Snapshot, TargetFile, Targets, Timestamp

from fleet_contracts import keys
from flows.errors import StoreMissing
from flows.releases import metadata
from flows.releases.errors import ReleaseConflict, RepositoryDamaged
from flows.releases.keys import OnlineKeys
from flows.releases.metadata import Lifetimes
from flows.store.base import ObjectStore


@dataclass(slots=True)
class Published:
    """Hold what the timestamp points to now; changed in memory, made visible by `point_to`."""

    timestamp: Timestamp
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class ReleaseBucket:
    """Read and write the objects under `releases/`.

    Args:
        store: bucket that holds them.
        online: keys that verify what is read and sign what is written.
        lives: how long each role's signature is good.
        now: clock.
    """

    store: ObjectStore
    online: OnlineKeys
    lives: Lifetimes
    now: Callable[[], datetime]

    def load(self) -> Published:
        """Read timestamp and snapshot.

        Raises:
            RepositoryDamaged: absent, torn or not signed by our keys.
        """
        timestamp = metadata.read(Timestamp, self._get("timestamp.json"), self.online.timestamp.public_key,
                                  where=metadata_key("timestamp.json"))
        name = f"{timestamp.snapshot_meta.version}.snapshot.json"
        snapshot = metadata.read(Snapshot, self._get(name), self.online.snapshot.public_key,
                                 where=metadata_key(name))
        return Published(timestamp, snapshot)

    def read_role(self, role: str, published: Published, key: Key) -> Targets:
        """Read the role's metadata of the version the snapshot names; raises as `load`."""
        name = f"{published.snapshot.meta[f'{role}.json'].version}.{quote(role, '')}.json"
        return metadata.read(Targets, self._get(name), key, where=metadata_key(name))

    def read_channel(self, role: str, published: Published) -> Targets:
        """Read a delegated role's metadata; raises as `load`."""
        return self.read_role(role, published, self.online.channel.public_key)

    def put_channel(self, role: str, targets: Targets, published: Published) -> None:
        """Sign a delegated role's next version with the channel key and write it."""
        targets.expires = self.after(self.lives.channel)
        self.put_role(role, targets, metadata.sign(targets, self.online.channel), published)

    def put_role(self, role: str, signed: Targets, content: bytes, published: Published) -> None:
        """Write a role's signed metadata and note it for the next snapshot."""
        self.store.put(metadata_key(f"{signed.version}.{quote(role, '')}.json"), content)
        published.snapshot.meta[f"{role}.json"] = metadata.meta_of(signed.version, content)

    def point_to(self, published: Published, *, keep_snapshot: bool = False) -> None:
        """Write the next snapshot and, last, the timestamp: the moment boxes can see all of it."""
        snapshot, timestamp = published.snapshot, published.timestamp
        if not keep_snapshot:
            snapshot.version += 1
            snapshot.expires = self.after(self.lives.snapshot)
            content = metadata.sign(snapshot, self.online.snapshot)
            self.store.put(metadata_key(f"{snapshot.version}.snapshot.json"), content)
            timestamp.snapshot_meta = metadata.meta_of(snapshot.version, content)
        timestamp.version += 1
        timestamp.expires = self.after(self.lives.timestamp)
        self.store.put(metadata_key("timestamp.json"), metadata.sign(timestamp, self.online.timestamp))

    def put_target(self, targets: Targets, path: str, content: bytes) -> None:
        """Write a file under a name that carries its hash, and list it in `targets`."""
        target = metadata.target_of(path, content)
        self.store.put(_target_key(target), content)
        targets.targets[path] = target

    def get_target(self, target: TargetFile) -> bytes:
        """Read a listed file.

        Raises:
            ReleaseConflict: its bytes are not the ones that were signed.
            StoreMissing: it is gone from the bucket.
        """
        content = self.store.get(_target_key(target))
        require_same(target, content)
        return content

    def after(self, life: timedelta) -> datetime:
        """Return the moment a signature made now ends."""
        return (self.now() + life).replace(microsecond=0)

    def _get(self, name: str) -> bytes:
        try:
            return self.store.get(metadata_key(name))
        except StoreMissing as error:
            raise RepositoryDamaged(expected=f"the metadata file {name}", got="no such object",
                                    where=metadata_key(name),
                                    now="Call initialise first, or restore it from a backup.") from error


def metadata_key(name: str) -> str:
    """Return where a metadata file lies."""
    return f"{keys.RELEASES}/metadata/{name}"


def require_same(target: TargetFile, content: bytes) -> None:
    """Check that bytes are what a target says.

    Raises:
        ReleaseConflict: they differ.
    """
    found = metadata.target_of(target.path, content)
    if found.hashes != target.hashes:
        raise ReleaseConflict(expected=f"sha256 {target.hashes['sha256']}, as published",
                              got=found.hashes["sha256"], where=target.path,
                              now="A version never changes its content; take the number next_version gives.")


def _target_key(target: TargetFile) -> str:
    return f"{keys.RELEASES}/targets/{metadata.hashed_path(target)}"
