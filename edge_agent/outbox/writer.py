"""Write examples and progress on a thread of its own: the loop hands over and goes on.

The queue of frames is bounded; when the disk is slower than the line, an example is counted as lost rather
than a frame delayed (law 3). Order matters: a part's frames are marked done only after the examples among
them are durable, so that a killed agent inspects again what it had not kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from datetime import timedelta

import cv2

from detection.detections import Detections
from edge_agent import counters as names
from edge_agent.config import AgentConfig
from edge_agent.counters import Counters
from edge_agent.errors import AgentError, DiskFull, FrameUnreadable, OutboxError
from edge_agent.events import Events
from edge_agent.mining.budget import bytes_of_day, limits_of
from edge_agent.outbox.books import PartKey
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.room import Loss
from edge_agent.priority import in_background
from edge_agent.privacy.masks import Masks
from edge_agent.sources.base import Frame
from fleet_contracts.base import utc_now
from fleet_contracts.ids import sample_id_of
from fleet_contracts.messages import MAX_IMAGE_BYTES
from fleet_contracts.samples import HardExample, ImageInfo, Reason, Sighting, Verdict

logger = logging.getLogger("whetstone.edge.outbox")
COMMIT_EVERY_S = 0.3
"""Progress is stored at most so often; after a kill so much is inspected again."""
COUNTS_EVERY_S = 5.0
"""Counts without progress (a camera has no files to come back to) are stored so often: it spares SD cards."""
MAX_JOBS = 100_000
"""Parts whose progress may wait for a disk that hangs; beyond it they are inspected again after a restart."""


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """Hold a frame to be kept, with what was seen and why it is hard."""

    frame: Frame
    detections: Detections
    model_id: str
    release_version: int
    decision: Verdict
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class PartDone:
    """Hold a finished part, the tokens of its frames, and the counts it stands for."""

    part_id: str
    tokens: tuple[str, ...]
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Unstored:
    """Gather finished parts until they are stored."""

    parts: list[PartKey] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def pause_s(self) -> float:
        """Return how long storing this may wait."""
        return COMMIT_EVERY_S if self.tokens else COUNTS_EVERY_S


class OutboxWriter:
    """Take kept frames and finished parts from the loop and make them durable."""

    def __init__(
        self,
        config: AgentConfig,
        outbox: Outbox,
        counters: Counters,
        events: Events,
        masks: Masks | None = None,
    ) -> None:
        self._config = config
        self._masks = masks
        self._outbox = outbox
        self._counters = counters
        self._events = events
        self._source = config.camera.source
        self._budget = limits_of(config.mining)
        self._jobs: deque[KeptFrame | PartDone] = deque()
        self._frames_queued = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._busy = False
        self._unstored = _Unstored()
        self._stored_at = 0.0
        outbox.on_loss = self._note_loss
        self._thread = threading.Thread(target=in_background(self._run), name="outbox-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def keep(self, kept: KeptFrame) -> bool:
        """Queue a frame to be kept; return False, and count the loss, when the queue is full. Never waits."""
        with self._changed:
            if self._frames_queued < self._config.outbox.queue_frames:
                self._frames_queued += 1
                self._jobs.append(kept)
                self._changed.notify_all()
                return True
        value = max((reason.score for reason in kept.reasons), default=0.0)
        self._count_lost("outbox.queue-full", "the disk is slower than the line", value)
        return False

    def part_done(self, done: PartDone) -> None:
        """Queue a part's progress behind its frames. Never waits."""
        with self._changed:
            if len(self._jobs) < MAX_JOBS:
                self._jobs.append(done)
                self._changed.notify_all()

    def has_room(self) -> bool:
        """Tell whether a source that can wait should bring the next frame now."""
        with self._changed:
            return self._frames_queued <= self._config.outbox.queue_frames // 2

    def queued(self) -> int:
        """Return how many frames wait to be written."""
        return self._frames_queued

    def is_idle(self) -> bool:
        """Tell whether everything handed over is durable."""
        with self._changed:
            return not self._jobs and not self._busy and not self._unstored.parts

    def stop(self, wait_s: float = 3.0) -> None:
        """Write what was handed over, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(wait_s)

    def _run(self) -> None:
        while True:
            job, stopping = self._next_job()
            try:
                self._handle(job)
                if (
                    stopping and job is None
                ) or time.monotonic() - self._stored_at >= self._unstored.pause_s():
                    self._store_progress()
            except Exception as error:  # the thread must outlive any one frame
                self._events.set_problem("outbox.progress", f"{type(error).__name__}: {error}")
                logger.exception("outbox.progress")
            with self._changed:
                self._busy = False
            if stopping and job is None:
                return

    def _next_job(self) -> tuple[KeptFrame | PartDone | None, bool]:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._jobs) or self._stopping, timeout=COMMIT_EVERY_S)
            self._busy = True
            if not self._jobs:
                return None, self._stopping
            job = self._jobs.popleft()
            if isinstance(job, KeptFrame):
                self._frames_queued -= 1
            return job, self._stopping

    def _handle(self, job: KeptFrame | PartDone | None) -> None:
        if isinstance(job, KeptFrame):
            self._keep(job)
        elif isinstance(job, PartDone):
            self._unstored.parts.append(PartKey(self._config.camera.name, job.part_id))
            self._unstored.tokens.extend(job.tokens)
            self._unstored.counts.update(job.counts)

    def _keep(self, kept: KeptFrame) -> None:
        value = max((reason.score for reason in kept.reasons), default=0.0)
        try:
            kept = self._hidden(kept)
            image = self._image_of(kept.frame)
            example = self._example_of(kept, image)
            counts = {names.KEPT + kept.reasons[0].rule: 1}
            # The day's bytes are durable with the example, so that a restart does not begin them anew.
            counts.update(bytes_of_day(self._budget, utc_now(), len(image)))
            if self._outbox.add(image, example, counts):
                self._counters.add_stored(counts)
                self._events.note("outbox.kept", sample=example.sample_id, why=kept.reasons[0].rule)
        except AgentError as error:
            self._count_lost(
                "outbox.full" if isinstance(error, DiskFull) else "outbox.lost", str(error), value
            )
        except Exception as error:  # whatever is odd about one frame, it is a loss and must be counted
            logger.exception("outbox.failed")
            self._count_lost("outbox.failed", f"{type(error).__name__}: {error}", value)
        else:
            for problem in ("outbox.full", "outbox.lost", "outbox.failed"):
                self._events.clear_problem(problem)

    def _hidden(self, kept: KeptFrame) -> KeptFrame:
        """Hide what must not be stored; the frame's own JPEG is let go with it."""
        if self._masks is None:
            return kept
        frame, found = self._masks.apply_to_frame(kept.frame, kept.detections)
        return replace(kept, frame=frame, detections=found)

    def _count_lost(self, problem: str, text: str, value: float) -> None:
        self._counters.add(names.LOST)
        self._counters.add(names.LOST_VALUE, round(value * 1000))
        self._events.set_problem(problem, text)

    def _note_loss(self, loss: Loss) -> None:
        """Tell of a loss that the outbox has counted; called on the thread that found it."""
        self._counters.add_stored(loss.counts)
        self._events.note(f"outbox.{loss.why}", examples=loss.examples, value=round(loss.value, 3))

    def _store_progress(self) -> None:
        """Store progress and counts together; when that fails both are kept for the next attempt."""
        unstored, changes = self._unstored, self._counters.take_changes()
        self._stored_at = time.monotonic()
        if not unstored.parts and not changes:
            return
        try:
            self._outbox.mark_done(
                self._source, unstored.tokens, unstored.counts + Counter(changes), unstored.parts
            )
        except (DiskFull, OutboxError) as error:
            self._counters.give_back(changes)
            self._events.set_problem("outbox.progress", str(error))
        else:
            self._unstored = _Unstored()
            self._events.clear_problem("outbox.progress")
            self._events.clear_problem("outbox.queue-full")

    def _image_of(self, frame: Frame) -> bytes:
        """Return the bytes to keep: a JPEG file's own, else the frame encoded.

        Raises:
            FrameUnreadable: the frame cannot be encoded or is too large to be uploaded.
        """
        content = frame.jpeg
        if content is None:
            quality = [cv2.IMWRITE_JPEG_QUALITY, self._config.mining.jpeg_quality]
            good, encoded = cv2.imencode(".jpg", frame.image, quality)
            content = encoded.tobytes() if good else b""
        if not 0 < len(content) <= MAX_IMAGE_BYTES:
            raise FrameUnreadable(
                expected=f"a JPEG of at most {MAX_IMAGE_BYTES} bytes",
                got=f"{len(content)} bytes",
                where=frame.token or frame.part_id,
            )
        return content

    def _example_of(self, kept: KeptFrame, image: bytes) -> HardExample:
        frame, config = kept.frame, self._config
        height, width = frame.image.shape[:2]
        return HardExample(
            task_id=config.task_id,
            sample_id=sample_id_of(image),
            image=ImageInfo(width=width, height=height, size_bytes=len(image)),
            sightings=(
                Sighting(
                    device_id=config.device_id,
                    camera=config.camera.name,
                    captured_at=frame.captured_at,
                    part_id=frame.part_id,
                    frame_in_part=frame.frame_in_part,
                ),
            ),
            model_id=kept.model_id,
            release_version=kept.release_version,
            detections=kept.detections.to_boxes(),
            decision=kept.decision,
            reasons=kept.reasons,
            keep_until=utc_now() + timedelta(days=config.mining.keep_days),
        )
