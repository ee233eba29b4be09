"""Check the release server: it answers, and its metadata is signed by the trusted root and still lives."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import Finding
from edge_agent.ota.disk import Disk
from edge_agent.ota.errors import MetadataExpired, MetadataRefused, OtaError, SourceAway, SourceMissing
from edge_agent.ota.server import HttpServer
from edge_agent.ota.tuf_client import TufClient
from fleet_contracts.base import utc_now

NAME = "releases"
WAIT_S = 5.0
MIN_LEFT_H = 24.0


class ReleaseCheck:
    """Fetch and verify the signed metadata as the updater does, in a folder of its own."""

    name = NAME

    def __init__(self, patient: Patient, wait_s: float = WAIT_S) -> None:
        self._config = patient.config
        self._wait_s = wait_s

    def check(self) -> Iterator[Finding]:
        """Give whether the root is one, and what the server's metadata says."""
        settings = self._config.releases
        try:
            root = settings.root_file.read_bytes()
            root_expires = expiry_of(root)
        except (OSError, ValueError, KeyError, TypeError) as error:
            now = "Copy secrets/release-keys/trusted_root.json from the cloud side to releases.root_file."
            yield Finding("fail", NAME, f"{settings.root_file} is no root of trust: {error}", now)
            return
        if root_expires < utc_now():
            # python-tuf follows newer roots from an old one, so this alone is no failure.
            words = f"{settings.root_file} ran out at {root_expires:%Y-%m-%d}"
            yield Finding(
                "warn", NAME, words, "Put the newest root there; the box follows newer ones by itself."
            )
        with TemporaryDirectory() as folder:
            yield self._refresh(root, Path(folder))

    def _refresh(self, root: bytes, folder: Path) -> Finding:
        url = self._config.releases.url
        server = HttpServer(url, self._wait_s, 4 * self._wait_s, self._config.releases.ca_file)
        client = TufClient(server, root, folder, Disk())
        try:
            channel = client.refresh(self._config.task_id, self._config.channel)
        except MetadataExpired as error:
            now = (
                "The signing service stands still, or the clock is wrong; the box serves on with what it has."
            )
            return Finding("fail", NAME, f"{url}: {error}", now)
        except MetadataRefused as error:
            now = "The root file is of another installation, or somebody else answers: compare root files."
            return Finding("fail", NAME, f"{url}: {error}", now)
        except SourceMissing as error:
            now = "Correct releases.url: metadata/ and targets/ lie directly under it."
            return Finding("fail", NAME, f"{url}: {error}", now)
        except SourceAway as error:
            return Finding("fail", NAME, f"{url}: {error}", "Is the server running, is releases.url right?")
        except OtaError as error:
            return Finding("fail", NAME, f"{url}: {error}", error.diagnostics())
        if channel is None:
            now = f'Nothing was released to channel "{self._config.channel}" yet, or the name is wrong.'
            return Finding("warn", NAME, f"{url}: verified, without a release for this channel", now)
        return self._judge(folder, channel.policy.latest)

    def _judge(self, folder: Path, latest: int) -> Finding:
        timestamp = next(folder.rglob("timestamp.json"))
        left_h = (expiry_of(timestamp.read_bytes()) - utc_now()).total_seconds() / 3600
        words = (
            f"{self._config.releases.url}: verified, newest release {latest}, signed for {left_h:.0f} h more"
        )
        if left_h < MIN_LEFT_H:
            return Finding(
                "warn", NAME, words, "Look at the cloud's signing service: it signs anew every hour."
            )
        return Finding("ok", NAME, words)


def expiry_of(metadata: bytes) -> datetime:
    """Return when signed metadata runs out.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata

    try:
        signed: Metadata[Any] = Metadata.from_bytes(metadata)
    except RepositoryError as error:
        raise ValueError(str(error)) from error
    expires: datetime = signed.signed.expires
    return expires
