"""Keep installed releases on the box's disk, and one flushed pointer to what serves.

    data_dir/releases/000007/{release.json, model.onnx, probe-0.jpg}
    data_dir/releases/slots.json            current, previous, whether current has proven itself, its starts
    data_dir/releases/refused.json          releases that failed here, so that they are not tried for ever
    data_dir/releases/incoming/000008/      what is being fetched
    data_dir/releases/order.json            the last order, in case the broker forgets it

A release is put together in `incoming/` and renamed as a whole, so a folder with a number is complete.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_agent.files import make_folder
from edge_agent.ota.disk import Disk
from edge_agent.ota.download import file_sha256
from edge_agent.ota.errors import OtaError, SlotDamaged
from edge_agent.ota.rules import RELEASE_FILE
from fleet_contracts.base import decode, encode
from fleet_contracts.errors import ContractError
from fleet_contracts.releases import Release, RolloutOrder

MAX_STARTS = 10
"""Starts of the agent that an unconfirmed release may fail to survive."""
MAX_ATTEMPTS = 3
"""Self-tests that may crash or run out of time before a release counts as bad."""
KEPT_REFUSALS = 50


@dataclass(frozen=True, slots=True)
class Pointers:
    """Say which releases serve now and before; 0 = none."""

    current: int = 0
    previous: int = 0
    confirmed: bool = True
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Remember that a release failed here. `final`: the same bytes would fail again."""

    version: int
    release_sha256: str
    problem: str
    attempts: int
    final: bool


class Slots:
    """Install releases and move the pointer.

    Args:
        folder: `data_dir/releases`.
        disk: how changes are made durable.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder = folder
        self._disk = disk
        make_folder(folder)

    def path(self, version: int) -> Path:
        """Return where an installed release lies."""
        return self.folder / f"{version:06d}"

    def incoming(self, version: int) -> Path:
        """Return (and make) the folder in which a release is put together."""
        folder = self.folder / "incoming" / f"{version:06d}"
        make_folder(folder)
        return folder

    def pointers(self) -> Pointers:
        """Read the pointer; a box that never had a release has none."""
        try:
            data = json.loads((self.folder / "slots.json").read_bytes())
            return Pointers(int(data["current"]), int(data["previous"]), bool(data["confirmed"]),
                            int(data["starts"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            # Written by flush and rename, so torn means the medium failed; the channel gives a release anew.
            return Pointers()

    def install(self, version: int) -> Path:
        """Make what `incoming` holds the installed release `version`, replacing a damaged one."""
        source, target = self.incoming(version), self.path(version)
        for path in source.glob("*.part"):
            path.unlink()
        self._disk.remove_tree(target)
        self._disk.rename(source, target)
        return target

    def load(self, version: int) -> Release:
        """Read an installed release and check its model's hash.

        Raises:
            SlotDamaged: the release is torn or altered.
        """
        folder = self.path(version)
        try:
            release = decode(Release, (folder / RELEASE_FILE).read_bytes(), where=str(folder / RELEASE_FILE))
            got = file_sha256(folder / release.model.path)
        except (OSError, ContractError) as error:
            raise SlotDamaged(expected=f"release {version}", got=f"{type(error).__name__}: {error}",
                              where=str(folder), now="It is fetched anew.") from error
        if got != release.model.sha256 or release.version != version:
            raise SlotDamaged(expected=f"a model of sha256 {release.model.sha256}", got=got,
                              where=str(folder / release.model.path), now="It is fetched anew.")
        return release

    def switch(self, version: int) -> None:
        """Let `version` serve on trial; what served before is kept to go back to."""
        now = self.pointers()
        # What has not proven itself is nothing to go back to.
        previous = now.current if now.confirmed and now.current != version else now.previous
        self._point(Pointers(version, previous, confirmed=False))

    def confirm(self) -> None:
        """Note that the current release has proven itself, and remove all but it and the previous one."""
        now = self.pointers()
        self._point(replace(now, confirmed=True, starts=0))
        keep = {self.path(now.current), self.path(now.previous)}
        for folder in self.folder.iterdir():
            if folder.name.isdigit() and folder not in keep:
                self._disk.remove_tree(folder)
        self._disk.remove_tree(self.folder / "incoming")

    def count_start(self) -> Pointers:
        """Count a start of the agent under an unconfirmed release, before the release is touched."""
        now = self.pointers()
        if now.current and not now.confirmed:
            self._point(replace(now, starts=now.starts + 1))
        return self.pointers()

    def uncount_start(self) -> None:
        """Take back what `count_start` counted: the agent ended in good order."""
        now = self.pointers()
        if not now.confirmed and now.starts:
            self._point(replace(now, starts=now.starts - 1))

    def has_proven(self, version: int) -> bool:
        """Tell whether an installed release has proven itself here."""
        now = self.pointers()
        return version == now.previous or (version == now.current and now.confirmed)

    def go_back(self) -> int:
        """Point to the previous release and return it, 0 when there is none."""
        now = self.pointers()
        self._point(Pointers(now.previous))
        return now.previous

    def order(self) -> RolloutOrder | None:
        """Return the last order, also if the broker has forgotten it (law 1)."""
        try:
            return decode(RolloutOrder, (self.folder / "order.json").read_bytes(), where="order.json")
        except (FileNotFoundError, ContractError):
            return None

    def keep_order(self, order: RolloutOrder) -> None:
        """Keep the order that the box follows from now on."""
        self._disk.write(self.folder / "order.json", encode(order))

    def refusal(self, version: int, release_sha256: str) -> Refusal | None:
        """Return why exactly this release may not be tried again, None when it may."""
        found = self._refusals().get(version)
        if found is None or found.release_sha256 != release_sha256:
            return None
        return found if found.final or found.attempts >= MAX_ATTEMPTS else None

    def refuse(self, version: int, release_sha256: str, error: OtaError) -> None:
        """Remember a failure and throw away what was fetched."""
        known = self._refusals()
        before = known.get(version)
        attempts = before.attempts if before and before.release_sha256 == release_sha256 else 0
        known[version] = Refusal(version, release_sha256, str(error), attempts + 1, error.final)
        rows = [asdict(known[each]) for each in sorted(known)[-KEPT_REFUSALS:]]
        self._disk.write(self.folder / "refused.json", json.dumps(rows).encode())
        self._disk.remove_tree(self.folder / "incoming" / f"{version:06d}")

    def _point(self, pointers: Pointers) -> None:
        self._disk.write(self.folder / "slots.json", json.dumps(asdict(pointers)).encode())

    def _refusals(self) -> dict[int, Refusal]:
        try:
            rows: list[dict[str, Any]] = json.loads((self.folder / "refused.json").read_bytes())
            return {int(row["version"]): Refusal(**row) for row in rows}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}
