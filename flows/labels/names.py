"""Find the sample a label file speaks of, by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fleet_contracts.ids import SHA256
from flows.catalog.samples import SeenFrame, known_samples, samples_by_part
from flows.context import Context
from flows.database.schema import SampleRow

_SHA256 = re.compile(SHA256)


@dataclass(frozen=True, slots=True)
class FileTarget:
    """Hold the sample a file speaks of; None while it has not arrived; `problem` says why none is told."""

    sample: SampleRow | None = None
    problem: str = ""


def part_and_frame(stem: str) -> tuple[str, int | None]:
    """Read `<part>__<frame>`; without a frame number the whole stem is the part.

    >>> part_and_frame("plate-7__2"), part_and_frame("plate-7")
    (('plate-7', 2), ('plate-7', None))
    """
    part, separator, frame = stem.rpartition("__")
    # `isdigit` alone is true of superscripts, which `int` does not read.
    numbered = bool(separator and part) and frame.isascii() and frame.isdigit()
    return (part, int(frame)) if numbered else (stem, None)


def find_targets(ctx: Context, task_id: str, stems: list[str]) -> dict[str, FileTarget]:
    """Find the samples of many label files in a few queries."""
    by_id = [stem for stem in stems if _SHA256.match(stem)]
    parts = {part for stem in stems for part in (stem, part_and_frame(stem)[0])}
    with ctx.database.reader() as session:
        frames = samples_by_part(session, task_id, parts)
        seen = {frame.sample_id for found in frames.values() for frame in found}
        samples = known_samples(session, task_id, sorted(seen | set(by_id)))
    return {stem: _target(stem, frames, samples) for stem in stems}


def _target(stem: str, frames: dict[str, list[SeenFrame]], samples: dict[str, SampleRow]) -> FileTarget:
    if _SHA256.match(stem):
        return FileTarget(samples.get(stem))
    part, number = part_and_frame(stem)
    wanted = [frame for frame in frames[part] if number is None or frame.frame_in_part == number]
    if not wanted:
        wanted = frames[stem]
    found = sorted({frame.sample_id for frame in wanted})
    if len(found) > 1:
        return FileTarget(
            problem=f"{len(found)} samples of part {part}; name the file <part>__<frame>.txt or by sample id"
        )
    return FileTarget(samples.get(found[0])) if found else FileTarget()
