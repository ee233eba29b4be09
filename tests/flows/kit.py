"""Build installations for tests, and boxes that play their part of the upload dialogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np

from fleet_contracts import encode, keys, sample_id_of, utc_now
from fleet_contracts.keys import Incoming
from fleet_contracts.messages import GrantItem, GrantRequest
from fleet_contracts.samples import BoxLabel, HardExample, ImageInfo, Reason, Sighting
from flows.context import Context
from flows.database import Database
from flows.ingest.commit import commit_upload
from flows.ingest.grants import answer_request
from flows.labels.records import NewLabel, add_labels
from flows.settings import LabelSettings, Settings, TaskSettings, TrackingSettings, write_settings
from flows.store import MemoryStore
from flows.store.base import ObjectStore
from flows.tasks import create_task

TASK = "plates"
DEVICE = "box-1"
MODEL = "a" * 64
CLASSES = ("scratch", "missing", "misplaced")
UNTRACKED = TrackingSettings(mlflow=False)
"""A tracking store of its own would cost every test some seconds; those about tracking switch it on."""
START = datetime(2026, 11, 1, 8, 0, tzinfo=timezone.utc)


def make_installation(
    folder: Path, *, store: ObjectStore | None = None, task: TaskSettings | None = None
) -> Context:
    """Return an installation in `folder` with one task, on a store in memory unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "whetstone.toml").exists():
        write_settings(folder, Settings(labels=LabelSettings(settle_seconds=0), tracking=UNTRACKED))
    database = Database.open(f"sqlite:///{folder / 'whetstone.db'}")
    ctx = Context(folder, Settings(tracking=UNTRACKED), store or MemoryStore(), database)
    settings = task or TaskSettings(devices=(DEVICE,), trigger_threshold=5)
    return create_task(ctx, TASK, CLASSES, settings)


def with_task(ctx: Context, **changes: object) -> Context:
    """Return the installation with settings of its task changed."""
    task = ctx.settings.task(TASK).model_copy(update=changes)
    write_settings(ctx.folder, ctx.settings.with_task(TASK, task))
    return ctx.reread()


def picture(seed: int, *, width: int = 96, height: int = 64) -> bytes:
    """Return a JPEG that no other seed gives, and that does not look like any other either."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return encode_jpeg(image)


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """Return an image as JPEG."""
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return content.tobytes()


class SimulatedBox:
    """Play a box: describe images, ask for grants, put objects where its presigned URLs point."""

    def __init__(self, ctx: Context, device_id: str = DEVICE) -> None:
        self.ctx = ctx
        self.device_id = device_id
        self._requests = 0

    def describe(self, content: bytes, *, part: str, frame: int = 0, at: datetime = START) -> HardExample:
        """Return what the box says about an image."""
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        height, width = (1, 1) if image is None else image.shape[:2]
        return HardExample(
            task_id=TASK,
            sample_id=sample_id_of(content),
            image=ImageInfo(width=width, height=height, size_bytes=max(1, len(content))),
            sightings=(
                Sighting(
                    device_id=self.device_id, camera="top", captured_at=at, part_id=part, frame_in_part=frame
                ),
            ),
            model_id=MODEL,
            reasons=(Reason(rule="uncertain", score=0.4),),
            keep_until=utc_now() + timedelta(days=30),
        )

    def request(self, items: Iterable[tuple[str, int]]) -> GrantRequest:
        """Return a new grant request."""
        self._requests += 1
        return GrantRequest(
            task_id=TASK,
            device_id=self.device_id,
            request_id=f"{self.device_id}-{self._requests:06d}",
            expires_at=utc_now() + timedelta(minutes=5),
            items=tuple(GrantItem(sample_id=sample_id, size_bytes=size) for sample_id, size in items),
        )

    def upload(self, content: bytes, example: HardExample, *, put: bytes | None = None) -> Incoming:
        """Ask for a grant and upload; `put` replaces the image's bytes by others."""
        answer = answer_request(self.ctx, self.request([(example.sample_id, len(content))]))
        assert answer.grant is not None
        upload = Incoming(TASK, answer.grant.grant_id, example.sample_id, "image")
        self.put(upload, content if put is None else put, example)
        return upload

    def put(self, upload: Incoming, content: bytes, example: HardExample) -> None:
        """Put both objects of an upload, image first."""
        place = (upload.task_id, upload.grant_id, upload.sample_id)
        self.ctx.store.put(keys.incoming(*place, "image"), content)
        self.ctx.store.put(keys.incoming(*place, "announcement"), encode(example))

    def send(self, content: bytes, *, part: str, frame: int = 0, at: datetime = START) -> str:
        """Bring an image all the way into the catalog and return its sample id."""
        example = self.describe(content, part=part, frame=frame, at=at)
        item = commit_upload(self.ctx, self.upload(content, example))
        assert item is not None
        assert item.outcome in ("stored", "duplicate"), item
        return example.sample_id


def box_label(class_id: int = 0, cx: float = 0.5, cy: float = 0.5) -> BoxLabel:
    """Return a label in the middle of an image."""
    return BoxLabel(class_id=class_id, cx=cx, cy=cy, width=0.2, height=0.2)


def label(ctx: Context, sample_id: str, *boxes: BoxLabel, **changes: object) -> None:
    """Label a sample as a person would."""
    new = NewLabel(sample_id=sample_id, class_list_version=1, boxes=boxes, labelled_by="test")
    add_labels(ctx, TASK, [replace(new, **changes)])


def sent_and_labelled(ctx: Context, count: int, *, first: int = 0) -> list[str]:
    """Send and label `count` different samples, a minute apart, one box of class `n % 3` each."""
    box = SimulatedBox(ctx)
    ids = []
    for number in range(first, first + count):
        at = START + timedelta(minutes=number)
        sample_id = box.send(picture(number), part=f"plate-{number}", at=at)
        label(ctx, sample_id, box_label(number % len(CLASSES)))
        ids.append(sample_id)
    return ids
