"""Keep each example's image and announcement as files: `<sha256>.jpg` and `<sha256>.json`.

The announcement is written last: with it the pair is whole and can be taken in without a database.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge_agent.files import sync_folder, write_atomically
from fleet_contracts.base import decode, encode
from fleet_contracts.errors import MalformedDocument
from fleet_contracts.ids import sample_id_of
from fleet_contracts.samples import HardExample

MAX_SIGHTINGS = 100


class ExampleFiles:
    """Read and write the files of examples in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        known = self._decode(path)
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
        """Return image and announcement, or None when either is missing or cannot be read."""
        try:
            return self._image(sample_id).read_bytes(), self._announcement(sample_id).read_bytes()
        except OSError:
            return None

    def remove(self, sample_id: str) -> None:
        """Delete both files, the announcement first, so that no announcement is left without an image."""
        self._announcement(sample_id).unlink(missing_ok=True)
        self._image(sample_id).unlink(missing_ok=True)

    def whole_examples(self, without: set[str]) -> Iterator[tuple[HardExample, int, int]]:
        """Give every example whose files are whole, with image bytes and total bytes; remove leftovers.

        Args:
            without: ids that need not be checked.
        """
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        for image in sorted(self.folder.glob("*.jpg")):
            if image.stem in without:
                continue
            example = self._decode(self._announcement(image.stem))
            content = image.read_bytes()
            if example is None or example.sample_id != image.stem or sample_id_of(content) != image.stem:
                # Cut off before its announcement: its frame was not marked done and is inspected again.
                self.remove(image.stem)
                continue
            yield example, len(content), len(content) + self._announcement(image.stem).stat().st_size

    def ids(self) -> set[str]:
        """Return the ids that have both files."""
        return {path.stem for path in self.folder.glob("*.json") if path.with_suffix(".jpg").exists()}

    def _decode(self, path: Path) -> HardExample | None:
        try:
            return decode(HardExample, path.read_bytes(), where=str(path))
        except (OSError, MalformedDocument):
            return None

    def _image(self, sample_id: str) -> Path:
        return self.folder / f"{sample_id}.jpg"

    def _announcement(self, sample_id: str) -> Path:
        return self.folder / f"{sample_id}.json"
