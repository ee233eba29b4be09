"""Keep each example's image and announcement as files: `<sha256>.jpg` and `<sha256>.json`.

The announcement is written last: with it the pair is whole and can be taken in without a database. A pair
that is whole but damaged is set aside for a person to look at, and only the newest of those are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from edge_agent.files import move_aside, sync_folder, write_atomically
from fleet_contracts.base import decode, encode
from fleet_contracts.errors import MalformedDocument
from fleet_contracts.ids import sample_id_of
from fleet_contracts.samples import HardExample

logger = logging.getLogger("whetstone.edge.outbox")
MAX_SIGHTINGS = 100
MAX_SET_ASIDE = 24
"""Files in `damaged/`; older ones are deleted, for a failing disk must not fill itself with its failures."""


class ExampleDamaged(Exception):
    """Tell that an example's files are here but are not what was written."""


class ExampleFiles:
    """Read and write the files of examples in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged = folder.parent / "damaged"

    def announcement_bytes(self, example: HardExample) -> int:
        """Return how long the announcement will be."""
        return len(encode(example))

    def write(self, image: bytes, example: HardExample) -> int:
        """Write both files durably and return their bytes.

        Raises:
            OSError: neither file is left behind.
        """
        announcement = encode(example)
        try:
            write_atomically(self._image(example.sample_id), image)
            write_atomically(self._announcement(example.sample_id), announcement)
            sync_folder(self.folder)
        except OSError:
            self.remove(example.sample_id)
            raise
        return len(image) + len(announcement)

    def add_sightings(self, example: HardExample) -> bool:
        """Add sightings that are new to an example already here; return whether there were any."""
        path = self._announcement(example.sample_id)
        known = self.announcement(example.sample_id)
        if known is None or len(known.sightings) >= MAX_SIGHTINGS:
            return False
        places = {(one.device_id, one.camera, one.part_id, one.frame_in_part) for one in known.sightings}
        new = tuple(
            one
            for one in example.sightings
            if (one.device_id, one.camera, one.part_id, one.frame_in_part) not in places
        )
        if new:
            write_atomically(path, encode(known.model_copy(update={"sightings": (*known.sightings, *new)})))
            sync_folder(self.folder)
        return bool(new)

    def read(self, sample_id: str) -> tuple[bytes, bytes] | None:
        """Return image and announcement, or None when either is missing or cannot be read just now.

        Raises:
            ExampleDamaged: they are not what was written.
        """
        try:
            image = self._image(sample_id).read_bytes()
            announcement = self._announcement(sample_id).read_bytes()
        except OSError:
            return None
        if sample_id_of(image) != sample_id or self.announcement(sample_id) is None:
            raise ExampleDamaged(sample_id)
        return image, announcement

    def exists(self, sample_id: str) -> bool:
        """Tell whether both files are here."""
        return self._image(sample_id).exists() and self._announcement(sample_id).exists()

    def announcement(self, sample_id: str) -> HardExample | None:
        """Return what an example's announcement says; None when it is missing or damaged."""
        path = self._announcement(sample_id)
        try:
            example = decode(HardExample, path.read_bytes(), where=str(path))
        except (OSError, MalformedDocument):
            return None
        return example if example.sample_id == sample_id else None

    def remove(self, sample_id: str) -> None:
        """Delete both files, the announcement first, so that no announcement is left without an image."""
        self._announcement(sample_id).unlink(missing_ok=True)
        self._image(sample_id).unlink(missing_ok=True)

    def remove_durably(self, sample_ids: Sequence[str]) -> None:
        """Delete the files of several examples so that a power cut does not bring them back."""
        for sample_id in sample_ids:
            self.remove(sample_id)
        sync_folder(self.folder)

    def set_aside(self, sample_id: str) -> None:
        """Move both files into `damaged/`; what cannot even be moved is deleted."""
        for path in (self._announcement(sample_id), self._image(sample_id)):
            try:
                if path.exists():
                    move_aside(path, self.damaged, keep=MAX_SET_ASIDE)
            except OSError as error:
                logger.warning("outbox.not-set-aside %s %s", path.name, error)
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def whole_examples(
        self, without: set[str], on_damaged: Callable[[str], None]
    ) -> Iterator[tuple[HardExample, int, int]]:
        """Give every example whose files are whole, with image bytes and total bytes; remove leftovers.

        Args:
            without: ids that need not be checked.
            on_damaged: told the ids whose files were both here but were set aside as damaged.
        """
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        for orphan in self.folder.glob("*.json"):
            if not orphan.with_suffix(".jpg").exists():
                orphan.unlink(missing_ok=True)
        for image in sorted(self.folder.glob("*.jpg")):
            sample_id = image.stem
            if sample_id in without:
                continue
            if not self._announcement(sample_id).exists():
                # Cut off before its announcement: its frame was not marked done and is inspected again.
                self.remove(sample_id)
                continue
            found = self._check(sample_id)
            if found is None:
                self.set_aside(sample_id)
                on_damaged(sample_id)
            else:
                yield found

    def ids(self) -> set[str]:
        """Return the ids that have both files."""
        return {path.stem for path in self.folder.glob("*.json") if path.with_suffix(".jpg").exists()}

    def _check(self, sample_id: str) -> tuple[HardExample, int, int] | None:
        try:
            found = self.read(sample_id)
        except ExampleDamaged:
            return None
        example = self.announcement(sample_id)
        if found is None or example is None:
            return None
        return example, len(found[0]), len(found[0]) + len(found[1])

    def _image(self, sample_id: str) -> Path:
        return self.folder / f"{sample_id}.jpg"

    def _announcement(self, sample_id: str) -> Path:
        return self.folder / f"{sample_id}.json"
