"""Bring one release from the channel into a slot: fetched, checked, self-tested, installed.

Nothing here touches what serves; `updater` does that afterwards. Every step may be cut off by a power
loss and is simply taken again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from edge_agent.ota.disk import Disk
from edge_agent.ota.download import Downloader
from edge_agent.ota.errors import OtaError, ReleaseRefused, SelfTestFailed, SlotDamaged
from edge_agent.ota.rules import RELEASE_FILE, Box, files_of, require_fits, require_signed
from edge_agent.ota.self_test import SelfTest
from edge_agent.ota.slots import Slots
from edge_agent.ota.tuf_client import Channel, Target, TufClient
from fleet_contracts.base import decode
from fleet_contracts.errors import ContractError
from fleet_contracts.ids import sha256_of
from fleet_contracts.releases import Release


@dataclass(frozen=True, slots=True)
class Installer:
    """Hold the parts an installation needs."""

    client: TufClient
    downloader: Downloader
    slots: Slots
    self_test: SelfTest
    disk: Disk
    box: Box

    def install(self, channel: Channel, version: int, running: Release | None,
                stop: threading.Event) -> Release:
        """Install a release the channel allows, unless it is installed already.

        Steps: (1) learn what was signed of `release.json`; (2) a release that failed here before is not
        tried again; (3) read it and check that it fits this box; (4) an intact installed copy is enough;
        (5) fetch its files, each held against its own signature and the release's word; (6) write
        `release.json` last, so that a folder that has one is complete; (7) self-test in a child; (8) rename
        the folder into its slot.

        Args:
            channel: as its signatures stand now.
            version: one of the allowed ones.
            running: release that serves, whose class list must be continued.
            stop: set when the agent ends.

        Raises:
            ReleaseRefused, SelfTestFailed: remembered, so that the same bytes are not tried for ever.
            SelfTestBroken: the test crashed; tried a few times, then refused.
            SourceAway, TargetRefused, MetadataRefused, Interrupted, OtaError: may work another time.
        """
        target = channel.target(version, RELEASE_FILE)  # (1)
        known = self.slots.refusal(version, target.sha256)  # (2)
        if known is not None:
            raise ReleaseRefused(expected="a release that did not fail here before", got=known.problem,
                                 where=f"release {version}", now="Publish a new version.")
        try:
            content = self.client.read_small(target)
            release = _read(content, target)
            require_fits(release, version, self.box, running)  # (3)
            if self._is_installed(release, content):  # (4)
                return release
            folder = self.slots.incoming(version)
            for artifact in files_of(release):  # (5)
                signed = channel.target(version, artifact.path)
                require_signed(artifact, signed.length, signed.sha256)
                self.downloader.fetch(signed, folder / artifact.path, stop)
            self.disk.write(folder / RELEASE_FILE, content)  # (6)
            self.self_test.run(folder)  # (7)
        except (ReleaseRefused, SelfTestFailed) as error:
            self.slots.refuse(version, target.sha256, error)
            if not error.final and self.slots.refusal(version, target.sha256) is not None:
                raise ReleaseRefused(expected="a self-test that comes to an end", got=str(error),
                                     where=f"release {version}", now="Publish a new version.") from error
            raise
        self.slots.install(version)  # (8)
        return release

    def refuse_installed(self, version: int, error: OtaError) -> None:
        """Remember that an installed release failed on real frames or took the agent down."""
        path = self.slots.path(version) / RELEASE_FILE
        self.slots.refuse(version, sha256_of(path.read_bytes()) if path.exists() else "", error)

    def _is_installed(self, release: Release, content: bytes) -> bool:
        try:
            self.slots.load(release.version)
            return (self.slots.path(release.version) / RELEASE_FILE).read_bytes() == content
        except (SlotDamaged, OSError):
            return False


def _read(content: bytes, target: Target) -> Release:
    try:
        return decode(Release, content, where=target.name)
    except ContractError as error:
        raise ReleaseRefused(expected=error.expected, got=error.got, where=error.where) from error
