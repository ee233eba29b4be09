"""Write samples, sightings and labels into the catalog and read them back, always within a transaction.

Sixth station of the data's way: bucket -> catalog -> labels. Every function may run twice with the effect
of once; what a tombstone forbids is never written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, select, tuple_
from sqlalchemy.orm import Session

from fleet_contracts import encode, sha256_of, utc_now
from fleet_contracts.samples import HardExample, LabelRecord, Sighting
from flows.database.schema import LabelRow, SampleRow, SightingRow, TombstoneRow

IMPORT_DEVICE = "import"
"""Stands as device and camera of imported samples, whose times mean nothing."""


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """Hold a sample with the labels that count: its newest revision."""

    sample: SampleRow
    label: LabelRow


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """Name a sample by where it was seen."""

    sample_id: str
    device_id: str
    camera: str
    captured_at: datetime
    part_id: str
    frame_in_part: int


def is_forgotten(session: Session, task_id: str, sample_id: str) -> bool:
    """Tell whether a tombstone forbids this sample."""
    return session.get(TombstoneRow, (task_id, sample_id)) is not None


def find_sample(session: Session, task_id: str, sample_id: str) -> SampleRow | None:
    """Return a committed sample, None when there is none."""
    return session.get(SampleRow, (task_id, sample_id))


def put_sample(session: Session, example: HardExample) -> None:
    """Write what a sidecar says into the catalog; rows that are there are brought up to date."""
    session.merge(
        SampleRow(
            task_id=example.task_id,
            sample_id=example.sample_id,
            width=example.image.width,
            height=example.image.height,
            size_bytes=example.image.size_bytes,
            media_type=example.image.media_type,
            look=example.look,
            origin=example.origin,
            pinned_split=example.pinned_split,
            model_id=example.model_id,
            release_version=example.release_version,
            decision=example.decision,
            reasons=[reason.rule for reason in example.reasons],
            slices=dict(example.slices),
            keep_until=example.keep_until,
            committed_at=example.committed_at or utc_now(),
        )
    )
    session.flush()
    put_sightings(session, example)


def put_sightings(session: Session, example: HardExample) -> None:
    """Add the sightings of a sample that the catalog does not have yet."""
    rows = session.scalars(
        select(SightingRow).where(
            SightingRow.task_id == example.task_id, SightingRow.sample_id == example.sample_id
        )
    )
    known = {_sighting_key(row) for row in rows}
    for sighting in example.sightings:
        if _sighting_key(sighting) in known:
            continue
        known.add(_sighting_key(sighting))
        session.add(
            SightingRow(
                task_id=example.task_id,
                sample_id=example.sample_id,
                device_id=sighting.device_id,
                camera=sighting.camera,
                captured_at=sighting.captured_at,
                part_id=sighting.part_id,
                frame_in_part=sighting.frame_in_part,
            )
        )


def merge_sightings(first: HardExample, second: HardExample) -> HardExample:
    """Return `first` with the sightings of `second` it lacks: the same bytes seen twice are one sample."""
    known = {_sighting_key(item) for item in first.sightings}
    new = tuple(item for item in second.sightings if _sighting_key(item) not in known)
    return first.model_copy(update={"sightings": (*first.sightings, *new)}) if new else first


def put_label(session: Session, record: LabelRecord) -> None:
    """Write one label revision into the catalog; a revision is never changed once written."""
    if session.get(LabelRow, (record.task_id, record.sample_id, record.revision)) is not None:
        return
    session.add(
        LabelRow(
            task_id=record.task_id,
            sample_id=record.sample_id,
            revision=record.revision,
            class_list_version=record.class_list_version,
            boxes=[box.model_dump(mode="json") for box in record.boxes],
            source=record.source,
            verified=record.verified,
            imported=record.imported,
            labelled_by=record.labelled_by,
            labelled_at=record.labelled_at,
            content_sha256=label_content_sha256(record),
        )
    )


def label_content_sha256(record: LabelRecord) -> str:
    """Return a hash of what a label says, leaving out its number, author and time."""
    plain = record.model_copy(
        update={
            "revision": 1,
            "labelled_by": "",
            "labelled_at": datetime.fromisoformat("2000-01-01T00:00:00+00:00"),
        }
    )
    return sha256_of(encode(plain))


def newest_label(session: Session, task_id: str, sample_id: str) -> LabelRow | None:
    """Return the label revision of a sample that counts, None when it has none."""
    return session.scalars(
        select(LabelRow)
        .where(LabelRow.task_id == task_id, LabelRow.sample_id == sample_id)
        .order_by(LabelRow.revision.desc())
        .limit(1)
    ).first()


def labelled_samples(session: Session, task_id: str) -> list[LabelledSample]:
    """Return every labelled sample of a task that was not forgotten, sorted by sample id."""
    top = (
        select(LabelRow.sample_id, func.max(LabelRow.revision).label("revision"))
        .where(LabelRow.task_id == task_id)
        .group_by(LabelRow.sample_id)
        .subquery()
    )
    forgotten = select(TombstoneRow.sample_id).where(TombstoneRow.task_id == task_id)
    rows = session.execute(
        select(SampleRow, LabelRow)
        .join(
            LabelRow, and_(LabelRow.task_id == SampleRow.task_id, LabelRow.sample_id == SampleRow.sample_id)
        )
        .join(top, and_(top.c.sample_id == LabelRow.sample_id, top.c.revision == LabelRow.revision))
        .where(SampleRow.task_id == task_id, SampleRow.sample_id.not_in(forgotten))
        .order_by(SampleRow.sample_id)
    )
    return [LabelledSample(sample, label) for sample, label in rows]


def seen_frames(session: Session, task_id: str) -> list[SeenFrame]:
    """Return every sighting of a task, ordered by sample id and time."""
    rows = session.scalars(
        select(SightingRow)
        .where(SightingRow.task_id == task_id)
        .order_by(SightingRow.sample_id, SightingRow.captured_at, SightingRow.id)
    )
    return [
        SeenFrame(row.sample_id, row.device_id, row.camera, row.captured_at, row.part_id, row.frame_in_part)
        for row in rows
    ]


def samples_by_part(session: Session, task_id: str, parts: Iterable[str]) -> dict[str, list[SeenFrame]]:
    """Return the frames seen of each of these parts."""
    wanted = sorted(set(parts))
    found: dict[str, list[SeenFrame]] = {part: [] for part in wanted}
    for start in range(0, len(wanted), 500):
        rows = session.scalars(
            select(SightingRow)
            .where(SightingRow.task_id == task_id, SightingRow.part_id.in_(wanted[start : start + 500]))
            .order_by(SightingRow.part_id, SightingRow.frame_in_part, SightingRow.sample_id)
        )
        for row in rows:
            found[row.part_id].append(
                SeenFrame(
                    row.sample_id, row.device_id, row.camera, row.captured_at, row.part_id, row.frame_in_part
                )
            )
    return found


def known_samples(session: Session, task_id: str, sample_ids: Sequence[str]) -> dict[str, SampleRow]:
    """Return those of the named samples that are committed, by id."""
    found: dict[str, SampleRow] = {}
    for start in range(0, len(sample_ids), 500):
        pairs = [(task_id, sample_id) for sample_id in sample_ids[start : start + 500]]
        rows = session.scalars(
            select(SampleRow).where(tuple_(SampleRow.task_id, SampleRow.sample_id).in_(pairs))
        )
        found.update({row.sample_id: row for row in rows})
    return found


def _sighting_key(item: SightingRow | Sighting) -> tuple[str, str, datetime, str, int]:
    return (item.device_id, item.camera, item.captured_at, item.part_id, item.frame_in_part)
