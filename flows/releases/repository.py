"""Publish signed releases under `releases/` of the bucket; boxes read them over plain HTTP.

Station between the gate and the boxes: what is not reachable from `timestamp.json` does not exist for a
box, so everything is uploaded first and the timestamp last. An attempt that broke off leaves objects that
nothing points to, and the next attempt starts again from the timestamp.

All writers hold one file lock beside the keys: the store has no conditional write, and two writers would
make two documents of the same version. Whoever holds the online keys therefore works on one machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Snapshot, TargetFile, Targets, Timestamp

from fleet_contracts import keys
from fleet_contracts.base import decode, encode, utc_now
from fleet_contracts.releases import ChannelPolicy, Release
from flows.files import write_file
from flows.releases import metadata, policy
from flows.releases.bucket import Published, ReleaseBucket, metadata_key, require_same
from flows.releases.errors import ChannelUnknown, ReleaseConflict, RepositoryDamaged
from flows.releases.keys import load_offline, load_online
from flows.releases.metadata import Lifetimes, role_name
from flows.store.base import ObjectStore

LOG = logging.getLogger("whetstone.releases")
_RELEASE = re.compile(r"/(\d{6})/release\.json$")


class ReleaseRepository:
    """Be the one writer of the TUF repository.

    Args:
        store: bucket that holds it.
        keys_folder: made by `create_keys`; only `online/` is opened, but by `initialise` and `add_channel`.
        lifetimes: how long each role's signature is good.
        now: clock, for tests.
    """

    def __init__(self, store: ObjectStore, keys_folder: Path, *, lifetimes: Lifetimes | None = None,
                 now: Callable[[], datetime] = utc_now) -> None:
        self._folder = keys_folder
        self._bucket = ReleaseBucket(store, load_online(keys_folder), lifetimes or Lifetimes(), now)

    # Set-up, with the offline keys at hand.

    def initialise(self, offline: Path) -> None:
        """Found the repository: root 1, empty targets, snapshot and timestamp; a second call does nothing.

        Raises:
            KeysMissing: the folder `offline` lacks `root.pem` or `targets.pem`.
        """
        with self._exclusive():
            if self._bucket.store.stat(metadata_key("timestamp.json")) is not None:
                return
            signers = load_offline(offline)
            end = self._bucket.after(self._bucket.lives.offline)
            # An attempt that broke off may have given its root away already; keep that one.
            root = self._kept_root() or metadata.new_root(signers, self._bucket.online, end)
            write_file(self._folder / "trusted_root.json", root)
            targets = metadata.sign(Targets(version=1, expires=end), signers.targets)
            self._bucket.store.put(metadata_key("1.root.json"), root)
            self._bucket.store.put(metadata_key("1.targets.json"), targets)
            published = Published(Timestamp(version=1, expires=end), Snapshot(version=1, expires=end))
            published.snapshot.meta = {"targets.json": metadata.meta_of(1, targets)}
            self._bucket.point_to(published)

    def add_channel(self, task_id: str, channel: str, offline: Path) -> None:
        """Let the online channel key speak for one task's channel; a second call does nothing.

        Raises:
            KeysMissing: the folder `offline` lacks its keys.
            RepositoryDamaged: nothing was initialised, or metadata is not signed by our keys.
        """
        role = role_name(task_id, channel)
        with self._exclusive():
            published = self._bucket.load()
            if f"{role}.json" in published.snapshot.meta:
                return
            signer = load_offline(offline).targets
            targets = self._bucket.read_role("targets", published, signer.public_key)
            targets.version += 1
            metadata.delegate(targets, role, self._bucket.online.channel.public_key)
            self._bucket.put_role("targets", targets, metadata.sign(targets, signer), published)
            # A role that is delegated but not in the snapshot would be an error to every box.
            self._bucket.put_channel(role, Targets(version=1), published)
            self._bucket.point_to(published)

    def trusted_root(self) -> bytes:
        """Return the root boxes are given as their anchor of trust; kept beside the keys, not in the bucket.

        Raises:
            RepositoryDamaged: `initialise` was never called with this keys folder.
        """
        root = self._kept_root()
        if root is None:
            raise RepositoryDamaged(expected="the root made by initialise", got="no such file",
                                    where=str(self._folder / "trusted_root.json"))
        return root

    # Publishing, with the online keys alone.

    def publish(self, release: Release, files: Mapping[str, Path | bytes],
                lowest_allowed: int | None = None) -> ChannelPolicy:
        """Sign a release into its channel and return what the channel allows now.

        The same release twice has the effect of once, also after it was withdrawn. Steps:
        (1) check the release against its files, before anything is read or written;
        (2) read what is published, verified by our own keys;
        (3) the same version: the same content is done, another is refused;
        (4) check it against the channel: class list, version, lowest allowed release;
        (5) upload files under names that carry their hash, then the channel's metadata, then the snapshot,
            and the timestamp last, which is the moment boxes can see it.

        Args:
            release: document that describes the files.
            files: model and probe images by the artifact paths the release names.
            lowest_allowed: releases below it may no longer run; None keeps the channel's bound.

        Raises:
            ReleaseConflict: the release contradicts its files, its channel or the class list.
            ChannelUnknown: call `add_channel` first.
            RepositoryDamaged: what lies in the bucket is not what our keys signed.
        """
        contents = {path: _bytes_of(content) for path, content in files.items()}
        facts = {path: policy.FileFacts(hashlib.sha256(content).hexdigest(), len(content))
                 for path, content in contents.items()}
        policy.require_complete(release, facts)  # (1)
        contents[policy.RELEASE_FILE] = encode(release)
        with self._exclusive():
            published = self._bucket.load()  # (2)
            targets = self._read_channel(release.task_id, release.channel, published)
            current = self._policy_in(targets, release.task_id, release.channel)
            target = _target(release, policy.RELEASE_FILE)
            if current is not None and target in targets.targets:  # (3)
                require_same(targets.targets[target], contents[policy.RELEASE_FILE])
                return current
            latest = self._release_in(targets, current) if current else None
            policy.require_continues(release, latest)  # (4)
            allowed = policy.allow(current, release, lowest_allowed)
            _drop_below(targets, allowed.lowest_allowed)
            for path, content in contents.items():  # (5)
                self._bucket.put_target(targets, _target(release, path), content)
            self._write_channel(targets, allowed, published)
        LOG.info("releases.published task=%s channel=%s version=%d", release.task_id, release.channel,
                 release.version)
        return allowed

    def withdraw(self, task_id: str, channel: str, version: int) -> ChannelPolicy:
        """Take a release back: boxes that run it return to the latest that is left.

        Raises:
            ReleaseConflict: it is the channel's only release.
            ChannelUnknown: there is no such channel.
        """
        with self._exclusive():
            published = self._bucket.load()
            targets = self._read_channel(task_id, channel, published)
            current = self._policy_in(targets, task_id, channel)
            if current is None:
                raise ReleaseConflict(expected="a published release", got="none",
                                      where=f"channel {task_id}/{channel}")
            if version not in current.allowed:
                return current
            left = policy.withdraw(current, version)
            self._write_channel(targets, left, published)
        LOG.warning("releases.withdrawn task=%s channel=%s version=%d", task_id, channel, version)
        return left

    def resign_timestamp(self) -> int:
        """Sign a fresh timestamp, and any online role that has lived half its life; return its version.

        To be called every hour; boxes believe a timestamp for seven days.

        Raises:
            RepositoryDamaged: nothing was initialised, or metadata is not signed by our keys.
        """
        with self._exclusive():
            published = self._bucket.load()
            renewed = [role for role in published.snapshot.meta if self._renew_role(role, published)]
            half = self._bucket.after(self._bucket.lives.snapshot / 2)
            self._bucket.point_to(published, keep_snapshot=not renewed and published.snapshot.expires > half)
            return published.timestamp.version

    # Reading back.

    def channel_policy(self, task_id: str, channel: str) -> ChannelPolicy | None:
        """Return what a channel allows, None before its first release; raises as `publish`."""
        targets = self._read_channel(task_id, channel, self._bucket.load())
        return self._policy_in(targets, task_id, channel)

    def releases(self, task_id: str, channel: str) -> tuple[Release, ...]:
        """Return a channel's published releases, oldest first, withdrawn ones too; raises as `publish`."""
        targets = self._read_channel(task_id, channel, self._bucket.load())
        paths = sorted(path for path in targets.targets if _RELEASE.search(path))
        return tuple(self._read_release(targets.targets[path]) for path in paths)

    def next_version(self, task_id: str, channel: str) -> int:
        """Return the number for a channel's next release; raises as `publish`."""
        targets = self._read_channel(task_id, channel, self._bucket.load())
        found = (_RELEASE.search(path) for path in targets.targets)
        return max((int(match[1]) for match in found if match), default=0) + 1

    def _read_channel(self, task_id: str, channel: str, published: Published) -> Targets:
        role = role_name(task_id, channel)
        if f"{role}.json" not in published.snapshot.meta:
            raise ChannelUnknown(expected="a channel the offline targets key delegated",
                                 got=f"{task_id}/{channel}", where="releases/metadata",
                                 now="Call add_channel with the offline keys at hand.")
        return self._bucket.read_channel(role, published)

    def _policy_in(self, targets: Targets, task_id: str, channel: str) -> ChannelPolicy | None:
        path = keys.channel_target(task_id, channel)
        if path not in targets.targets:
            return None
        return decode(ChannelPolicy, self._bucket.get_target(targets.targets[path]), where=path)

    def _release_in(self, targets: Targets, current: ChannelPolicy) -> Release | None:
        path = keys.release_target(current.task_id, current.channel, current.latest, policy.RELEASE_FILE)
        return self._read_release(targets.targets[path]) if path in targets.targets else None

    def _read_release(self, target: TargetFile) -> Release:
        return decode(Release, self._bucket.get_target(target), where=target.path)

    def _write_channel(self, targets: Targets, allowed: ChannelPolicy, published: Published) -> None:
        path = keys.channel_target(allowed.task_id, allowed.channel)
        self._bucket.put_target(targets, path, encode(allowed))
        targets.version += 1
        self._bucket.put_channel(role_name(allowed.task_id, allowed.channel), targets, published)
        self._bucket.point_to(published)

    def _renew_role(self, file_name: str, published: Published) -> bool:
        role = file_name.removesuffix(".json")
        if role == "targets":
            return False
        targets = self._bucket.read_channel(role, published)
        if targets.expires > self._bucket.after(self._bucket.lives.channel / 2):
            return False
        targets.version += 1
        self._bucket.put_channel(role, targets, published)
        return True

    def _kept_root(self) -> bytes | None:
        path = self._folder / "trusted_root.json"
        return path.read_bytes() if path.exists() else None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _target(release: Release, path: str) -> str:
    return keys.release_target(release.task_id, release.channel, release.version, path)


def _bytes_of(content: Path | bytes) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


def _drop_below(targets: Targets, lowest: int) -> None:
    for path in list(targets.targets):
        parts = path.split("/")
        if len(parts) == 4 and int(parts[2]) < lowest:
            del targets.targets[path]
