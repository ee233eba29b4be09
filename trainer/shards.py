"""Read sample images out of a snapshot's shards: plain tars, members named by sample id."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from trainer.errors import DatasetRefused

_SAMPLE = re.compile(r"^[0-9a-f]{64}$")
_MAX_IMAGE_BYTES = 32 * 1024 * 1024


class ShardReader:
    """Find sample images in shards; use as a context, since the tars stay open."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._tars: list[tarfile.TarFile] = []
        self._where: dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]] = {}
        for path in shards:
            self._index(path)

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        for tar in self._tars:
            tar.close()

    def image_of(self, sample_id: str) -> bytes:
        """Return the encoded image of a sample; its hash is the caller's to check.

        Raises:
            DatasetRefused: no shard holds it.
        """
        found = self._where.get(sample_id)
        stream = found[0].extractfile(found[1]) if found else None
        if stream is None:
            raise DatasetRefused(
                expected=f"sample {sample_id}", got="no such member", where=f"{len(self._tars)} shards",
                now="Cut the snapshot again; its shards do not hold what its manifest names.",
            )  # fmt: skip
        return stream.read()

    def _index(self, path: Path) -> None:
        try:
            tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed in __exit__
            self._tars.append(tar)
            for member in tar:
                stem = _sample_of(member)
                if stem is not None:
                    self._where[stem] = (tar, member)
        except (tarfile.TarError, OSError) as error:
            raise DatasetRefused(expected="a tar of images", got=str(error), where=str(path)) from error


def unpack(path: Path, place: Callable[[str, Callable[[], bytes]], None]) -> tuple[str, ...]:
    """Show every sample image of a shard, one after the other in the order of the tar, and return their ids.

    Args:
        path: the shard.
        place: told the sample id and a way to read the image, which costs nothing unless it is used.

    Raises:
        DatasetRefused: no tar.
    """
    found = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                stem = _sample_of(member)
                if stem is not None:
                    place(stem, partial(_content, tar, member))
                    found.append(stem)
    except tarfile.TarError as error:
        raise DatasetRefused(expected="a tar of images", got=str(error), where=str(path)) from error
    return tuple(found)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    return stream.read() if stream is not None else b""


def _sample_of(member: tarfile.TarInfo) -> str | None:
    """Return the id of the sample a member is, or None for links, folders, foreign names and giants."""
    stem = PurePosixPath(member.name).stem
    if member.isfile() and _SAMPLE.match(stem) and member.size <= _MAX_IMAGE_BYTES:
        return stem
    return None
