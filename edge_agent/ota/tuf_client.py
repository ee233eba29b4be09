"""Walk from the trusted root to the files of a release, believing only signatures.

python-tuf does the cryptography and the order of the walk; this module gives it the network, holds its
results against our own floor, and turns its errors into ours. Release files themselves are fetched by
`download`, which resumes, limits its rate and flushes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from edge_agent.files import make_folder
from edge_agent.ota.disk import Disk
from edge_agent.ota.errors import MetadataExpired, MetadataRefused, SourceAway, SourceMissing, TargetRefused
from edge_agent.ota.floor import Floor, Seen
from edge_agent.ota.server import ReleaseServer
from fleet_contracts import keys
from fleet_contracts.base import decode
from fleet_contracts.errors import ContractError
from fleet_contracts.ids import sha256_of
from fleet_contracts.releases import ChannelPolicy

MAX_DOCUMENT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Hold what was signed of one file; `path` is where the server keeps it."""

    name: str
    path: str
    length: int
    sha256: str


class Channel:
    """Be a channel as its signatures stand now; good for one round, then refresh again."""

    def __init__(self, policy: ChannelPolicy, updater: Updater) -> None:
        self.policy = policy
        self._updater = updater

    def target(self, version: int, name: str) -> Target:
        """Return what was signed of one file of a release.

        Raises:
            TargetRefused: the channel's signed metadata lists no such file.
            MetadataRefused, SourceAway: as in `TufClient.refresh`.
        """
        path = keys.release_target(self.policy.task_id, self.policy.channel, version, name)
        return _find(self._updater, path)


class TufClient:
    """Read one channel of the release repository.

    Args:
        server: where metadata and files are read.
        root: bytes of the root the box was given; never taken from the network or the cache.
        folder: for python-tuf's cache and our floor; one process at a time.
        disk: how the floor is written.
    """

    def __init__(self, server: ReleaseServer, root: bytes, folder: Path, disk: Disk) -> None:
        self._server = server
        self._root = root
        self._cache = folder / "metadata"
        self._floor_file = folder / "floor.json"
        self._disk = disk

    def refresh(self, task_id: str, channel: str) -> Channel | None:
        """Fetch and verify what the channel allows now; None when it has no release yet.

        Steps: (1) let python-tuf verify root, timestamp, snapshot and targets; (2) hold their versions
        against the floor; (3) raise the floor, flushed, before anything is used; (4) fetch the channel's
        policy, verify its hash, and check that it speaks of this channel.

        Raises:
            SourceAway: the server does not answer; try later.
            MetadataExpired: nobody signed in time.
            MetadataRefused: wrong signature, older than what was seen before, endless, torn, or of another
                channel.
            TargetRefused: the policy file is not the one that was signed.
        """
        make_folder(self._cache)
        with _our_errors():
            updater = Updater(str(self._cache), "metadata/", fetcher=_Fetcher(self._server),
                              bootstrap=self._root)
            updater.refresh()  # (1)
        found = self._versions()
        floor = self._load_floor()
        floor.check(found)  # (2)
        if floor.roles != found:
            self._disk.write(self._floor_file, floor.raised(found).to_bytes())  # (3)
        try:
            target = _find(updater, keys.channel_target(task_id, channel))  # (4)
        except TargetRefused:
            return None
        return Channel(self._read_policy(target, task_id, channel), updater)

    def read_small(self, target: Target) -> bytes:
        """Read a small signed file into memory.

        Raises:
            TargetRefused: it is not what was signed, or too long to be small.
            SourceAway: the server does not answer.
        """
        limit = min(target.length, MAX_DOCUMENT_BYTES)
        content = self._server.open(target.path).read_all(limit)
        require_content(target, content)
        return content

    def _read_policy(self, target: Target, task_id: str, channel: str) -> ChannelPolicy:
        try:
            policy = decode(ChannelPolicy, self.read_small(target), where=target.name)
        except ContractError as error:
            raise MetadataRefused(expected=error.expected, got=error.got, where=error.where) from error
        if (policy.task_id, policy.channel) != (task_id, channel):
            raise MetadataRefused(expected=f"the policy of {task_id}/{channel}",
                                  got=f"{policy.task_id}/{policy.channel}", where=target.name)
        return policy

    def _versions(self) -> dict[str, Seen]:
        # After a refresh the cache holds exactly what was verified; these are python-tuf's public formats.
        with _our_errors():
            root = Metadata[Root].from_file(str(self._cache / "root.json")).signed
            timestamp = Metadata[Timestamp].from_file(str(self._cache / "timestamp.json")).signed
            snapshot = Metadata[Snapshot].from_file(str(self._cache / "snapshot.json")).signed
        by = {role: tuple(sorted(root.roles[role].keyids)) for role in ("timestamp", "snapshot")}
        found = {f"{name.removesuffix('.json')}": Seen(meta.version, by["snapshot"])
                 for name, meta in snapshot.meta.items()}
        found["root"] = Seen(root.version, ())
        found["timestamp"] = Seen(timestamp.version, by["timestamp"])
        found["snapshot"] = Seen(snapshot.version, by["snapshot"])
        return found

    def _load_floor(self) -> Floor:
        try:
            return Floor.from_bytes(self._floor_file.read_bytes())
        except FileNotFoundError:
            return Floor()
        except ValueError as error:
            raise MetadataRefused(
                expected="the versions seen before", got=str(error), where=str(self._floor_file),
                now="It is flushed before it is used, so somebody changed it; remove it on site.") from error


def require_content(target: Target, content: bytes) -> None:
    """Check bytes against what was signed.

    Raises:
        TargetRefused: length or hash differ.
    """
    got = sha256_of(content)
    if len(content) != target.length or got != target.sha256:
        raise TargetRefused(expected=f"{target.length} bytes, sha256 {target.sha256}",
                            got=f"{len(content)} bytes, sha256 {got}", where=target.name)


class _Fetcher(FetcherInterface):
    """Give python-tuf our server; its base class keeps the length limits."""

    def __init__(self, server: ReleaseServer) -> None:
        self._server = server

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return self._server.open(url).chunks
        except SourceMissing as error:
            raise DownloadHTTPError(str(error), error.status) from error


def _find(updater: Updater, path: str) -> Target:
    with _our_errors():
        info = updater.get_targetinfo(path)
    if info is None:
        raise TargetRefused(expected="a file the channel's metadata lists", got="none", where=path)
    return _target(info)


def _target(info: TargetFile) -> Target:
    sha256 = info.hashes.get("sha256")
    if sha256 is None:
        raise MetadataRefused(expected="a sha256", got=str(sorted(info.hashes)), where=info.path)
    return Target(info.path, f"targets/{info.get_prefixed_paths()[0]}", info.length, sha256)


@contextmanager
def _our_errors() -> Iterator[None]:
    """Turn python-tuf's errors into ours, most specific first."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise MetadataExpired(expected="metadata signed in time", got=str(error), where="release metadata",
                              now="Look whether the cloud side still signs the timestamp every hour; "
                                  "check this box's clock.") from error
    except (RepositoryError, DownloadLengthMismatchError) as error:
        raise MetadataRefused(expected="metadata as its keys sign it", got=f"{type(error).__name__}: {error}",
                              where="release metadata",
                              now="The server or the line gives what our keys did not sign.") from error
    except DownloadHTTPError as error:
        raise SourceMissing(got=str(error), where="release metadata", status=error.status_code) from error
    except DownloadError as error:
        raise SourceAway(expected="an answer", got=str(error.__cause__ or error),
                         where="release metadata") from error
