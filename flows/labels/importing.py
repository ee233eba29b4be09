"""Import old data: images with labels that the fleet never sent, to be replayed in training.

Imported labels never count toward the trigger. A fixed share becomes the golden set, which no run may ever
train on; a near-duplicate of a golden image is golden too (see `flows.snapshots.splits`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from fleet_contracts import encode, keys, sample_id_of, utc_now
from fleet_contracts.samples import HardExample, ImageInfo, Reason, Sighting
from flows.catalog.samples import IMPORT_DEVICE, is_forgotten, known_samples, newest_label, put_sample
from flows.classes import class_list_at, prefix_version
from flows.context import Context
from flows.errors import LabelsRefused
from flows.ingest.verify import ImageFacts, Promise, Refusal, check_image
from flows.labels.dataset import ImportItem, Pin
from flows.labels.records import NewLabel, add_labels
from flows.labels.yolo_text import FrameSize, read_yolo

NO_MODEL = "0" * 64
BATCH = 64
THREADS = 4
_NOT_IN_PART = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ImportPolicy:
    """Say how old data is taken in.

    `golden_share` of the items without a pinned split become golden, chosen by hash; the rest is for
    training alone.
    """

    class_names: tuple[str, ...]
    golden_share: float = 0.15
    labelled_by: str = "import"


@dataclass(slots=True)
class ImportReport:
    """Say what an import brought."""

    samples: int = 0
    known: int = 0
    labels: int = 0
    golden: int = 0
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Ready:
    example: HardExample
    content: bytes
    label: NewLabel | None


def import_dataset(
    ctx: Context, task_id: str, items: Iterable[ImportItem], policy: ImportPolicy
) -> ImportReport:
    """Register images and labels directly; importing the same data again changes nothing.

    Raises:
        ClassListConflict: the data speaks another class list than the task.
        StoreAway, DatabaseAway: what was not imported yet is imported by the next call.
    """
    version = prefix_version(ctx, task_id, policy.class_names, where="the imported data's classes")
    class_count = len(class_list_at(ctx, task_id, version).names)
    report = ImportReport()
    todo = list(items)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(todo), BATCH):
            ready: list[_Ready] = []
            reading = _Reading(ctx, task_id, policy, version, class_count)
            for outcome in pool.map(reading.read, todo[start : start + BATCH]):
                if isinstance(outcome, _Ready):
                    ready.append(outcome)
                else:
                    report.refused.append(outcome)
            _register(ctx, task_id, ready, report, pool)
    return report


@dataclass(frozen=True, slots=True)
class _Reading:
    ctx: Context
    task_id: str
    policy: ImportPolicy
    version: int
    class_count: int

    def read(self, item: ImportItem) -> _Ready | str:
        """Read one item, or return why it cannot be used."""
        try:
            content = item.image.read_bytes()
            sample_id = sample_id_of(content)
            facts = check_image(Promise(self.task_id, sample_id, None, None), content)
            label = self._label(item, sample_id, facts)
        except (Refusal, LabelsRefused, OSError, UnicodeDecodeError) as error:
            return f"{item.image.name}: {error}"
        return _Ready(self._example(item, sample_id, facts), content, label)

    def _label(self, item: ImportItem, sample_id: str, facts: ImageFacts) -> NewLabel | None:
        if item.label is None:
            return None
        text = item.label.read_text(encoding="utf-8-sig")
        size = FrameSize(facts.width, facts.height)
        return NewLabel(
            sample_id=sample_id,
            class_list_version=self.version,
            boxes=read_yolo(text, size, class_count=self.class_count, where=str(item.label)),
            labelled_by=self.policy.labelled_by,
            imported=True,
        )

    def _example(self, item: ImportItem, sample_id: str, facts: ImageFacts) -> HardExample:
        now = utc_now()
        part_id = _NOT_IN_PART.sub("-", item.name).lstrip("-._")[:128] or sample_id[:16]
        return HardExample(
            task_id=self.task_id,
            sample_id=sample_id,
            image=ImageInfo(
                width=facts.width,
                height=facts.height,
                size_bytes=facts.size_bytes,
                media_type=facts.media_type,
            ),
            sightings=(
                Sighting(device_id=IMPORT_DEVICE, camera=IMPORT_DEVICE, captured_at=now, part_id=part_id),
            ),
            model_id=NO_MODEL,
            reasons=(Reason(rule="import", score=0.0),),
            keep_until=now + timedelta(days=self.ctx.settings.task(self.task_id).keep_days),
            slices=item.slices,
            origin="import",
            pinned_split=item.pinned or self._choose(sample_id),
            look=facts.look,
            committed_at=now,
        )

    def _choose(self, sample_id: str) -> Pin:
        digest = hashlib.sha256(f"golden:{self.task_id}:{sample_id}".encode()).digest()
        golden = int.from_bytes(digest[:8], "big") < self.policy.golden_share * 2**64
        return "golden" if golden else "train"


def _register(
    ctx: Context, task_id: str, ready: list[_Ready], report: ImportReport, pool: ThreadPoolExecutor
) -> None:
    with ctx.database.reader() as session:
        known = known_samples(session, task_id, [item.example.sample_id for item in ready])
        usable = [item for item in ready if not is_forgotten(session, task_id, item.example.sample_id)]
    unique = {item.example.sample_id: item for item in usable}
    new = [item for sample_id, item in unique.items() if sample_id not in known]
    # (1) images, then (2) sidecars: a sample exists from its sidecar on
    list(pool.map(lambda item: _put_image(ctx, item), new))
    list(pool.map(lambda item: _put_sidecar(ctx, item), new))
    # (3) the catalog
    with ctx.database.session() as session:
        for item in new:
            put_sample(session, item.example)
    # (4) labels last: they speak of committed samples, and never replace what somebody said here since
    with ctx.database.reader() as session:
        spoken = {
            one for one in known if (label := newest_label(session, task_id, one)) and not label.imported
        }
    labels = [item.label for one, item in unique.items() if item.label and one not in spoken]
    report.labels += add_labels(ctx, task_id, labels)
    report.samples += len(new)
    report.known += len(unique) - len(new)
    report.golden += sum(item.example.pinned_split == "golden" for item in new)


def _put_image(ctx: Context, item: _Ready) -> None:
    ctx.store.put(keys.sample_image(item.example.task_id, item.example.sample_id), item.content)


def _put_sidecar(ctx: Context, item: _Ready) -> None:
    ctx.store.put(keys.sample_sidecar(item.example.task_id, item.example.sample_id), encode(item.example))
