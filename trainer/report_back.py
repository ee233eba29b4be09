"""Report a run to object storage: events and checkpoints in the background, results at the end, in order.

Two checkpoint slots are written in turn and `checkpoint.json` last, so that whenever the machine dies one
whole checkpoint is named. Training never waits for the network: a checkpoint that was overtaken by a newer
one while it waited is skipped, an event is kept until it could be sent.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fleet_contracts import keys
from fleet_contracts.base import Count, Value, decode, encode
from fleet_contracts.errors import ContractError
from fleet_contracts.ids import Sha256
from fleet_contracts.training import RunEvent, RunRecord
from trainer.errors import TicketRefused, TransferFailed
from trainer.ticket_desk import TicketDesk
from trainer.wire import WireDown

_log = logging.getLogger("whetstone.trainer")
_SLOTS = ("checkpoint-a.pt", "checkpoint-b.pt")
_PAUSE_SECONDS = 2.0
_MAX_CHECKPOINT_BYTES = 4 << 30


class SlotNote(Value):
    """Say what a slot holds."""

    slot: Annotated[str, Field(pattern=r"^checkpoint-[ab]\.pt$")]
    stage: Count
    epoch: Count
    sha256: Sha256
    size_bytes: Count


class CheckpointNote(SlotNote):
    """Say which slot holds the newest whole checkpoint, and what the other holds; written after the slot."""

    next_event: Count = 0
    previous: SlotNote | None = None

    def beyond(self, here: tuple[int, int]) -> CheckpointNote:
        """Return the note without what is no further than `here`, a stage and an epoch."""
        before = self.previous
        behind = before is not None and (before.stage, before.epoch) <= here
        return self.model_copy(update={"previous": None}) if behind else self


class Reporter:
    """Send what a run has to say; use as a context, which starts and ends the sending thread.

    Args:
        desk: hands out URLs.
        next_slot: slot to write first, the one the last note does not name.
        before: the last note.
        give_up_seconds: how long the final results may wait for a store that is away.
    """

    def __init__(
        self,
        desk: TicketDesk,
        *,
        next_slot: int = 0,
        before: SlotNote | None = None,
        give_up_seconds: float = 600.0,
    ) -> None:
        self._desk = desk
        self._before = before
        self._give_up_seconds = give_up_seconds
        self._slot = next_slot
        self._events: deque[RunEvent] = deque()
        self._record: RunRecord | None = None
        self._record_due = False
        self._checkpoint: tuple[Path, int, int] | None = None
        self._next_event = 0
        self._wake = threading.Condition()
        self._ending = False
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="report-back", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._wake:
            self._ending = True
            self._wake.notify_all()
        self._thread.join(timeout=30.0)

    def event(self, event: RunEvent) -> None:
        """Send an event when the store allows."""
        with self._wake:
            self._events.append(event)
            self._wake.notify_all()

    def goes_on_from(self, taken: SlotNote) -> None:
        """Spare the slot that the run goes on from until the other one is whole."""
        self._slot = 1 - _SLOTS.index(taken.slot)
        self._before = taken

    def checkpoint(self, file: Path, *, stage: int, epoch: int, record: RunRecord) -> None:
        """Send a checkpoint and the record that goes with it, unless a newer one overtakes it."""
        with self._wake:
            self._checkpoint = (file, stage, epoch)
            self._record = record
            self._wake.notify_all()

    def record(self, record: RunRecord) -> None:
        """Send the record alone, where what it says must not wait for the next checkpoint."""
        with self._wake:
            self._record, self._record_due = record, True
            self._wake.notify_all()

    def results(self, objects: list[tuple[str, bytes]]) -> None:
        """Send final objects in the given order and return when all are kept; the last one is the commit.

        Raises:
            TransferFailed: the store was away or refused for too long.
            TicketRefused: the ticket does not allow one of the names.
        """
        deadline = time.monotonic() + self._give_up_seconds
        self._drain(deadline)
        for name, content in objects:
            self._insist(partial(self._desk.put, name, content), name, deadline)

    def _drain(self, deadline: float) -> None:
        with self._wake:
            while (self._waits() or self._busy) and time.monotonic() < deadline:
                self._wake.wait(0.1)

    def _insist(self, send: Callable[[], None], name: str, deadline: float) -> None:
        while True:
            try:
                return send()
            except (WireDown, TransferFailed) as error:
                _log.warning("trainer.result_not_sent name=%s error=%s", name, error)
                if time.monotonic() > deadline:
                    raise TransferFailed(
                        expected="the store to keep the results", got=str(error), where=name,
                        now="The results lie in the run's work folder; start the run again to send them.",
                    ) from error  # fmt: skip
                time.sleep(_PAUSE_SECONDS)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._waits() or self._ending):
                    self._wake.wait()
                if not self._waits():
                    return
                self._busy = True
            sent = self._send_next()
            with self._wake:
                self._busy = False
                self._wake.notify_all()
                if not sent and self._ending:
                    _log.warning("trainer.unsent events=%s", len(self._events))
                    return
                if not sent:
                    self._wake.wait(_PAUSE_SECONDS)

    def _waits(self) -> bool:
        return bool(self._events or self._checkpoint or self._record_due)

    def _send_next(self) -> bool:
        """Send one thing, events first; False when the store is away, and the thing is kept."""
        with self._wake:
            event = self._events[0] if self._events else None
            pending = self._checkpoint
            record = self._record
        try:
            if event is not None:
                self._desk.put(keys.event_name(event.number), encode(event))
                self._next_event = event.number + 1
            else:
                if pending is not None:
                    self._send_checkpoint(*pending)
                if record is not None:
                    self._desk.put("run.json", encode(record))
        except (WireDown, TransferFailed) as error:
            _log.warning("trainer.report_waits error=%s", error)
            return False
        except TicketRefused as error:
            # An event number beyond the ticket's last one: the run goes on, the record holds every epoch.
            _log.warning("trainer.event_dropped error=%s", error)
        except (OSError, ValueError) as error:
            # A checkpoint that a child has set aside since: this thread must live to send the next one.
            _log.warning("trainer.checkpoint_not_sent error=%s", error)
        with self._wake:
            if event is not None:
                self._events.popleft()
            else:
                if self._checkpoint == pending:
                    self._checkpoint = None
                if self._record is record:
                    self._record_due = False
        return True

    def _send_checkpoint(self, file: Path, stage: int, epoch: int) -> None:
        """Send a checkpoint from where it lies; a newer one takes its name and leaves its content."""
        slot = _SLOTS[self._slot % 2]
        with (
            file.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as content,
        ):
            self._desk.put(slot, content)
            digest = hashlib.sha256(content).hexdigest()
            size = len(content)
        kept = None if self._before is None else self._before.model_dump(include=set(SlotNote.model_fields))
        previous = None if kept is None else SlotNote.model_validate(kept)
        note = CheckpointNote(slot=slot, stage=stage, epoch=epoch, sha256=digest, size_bytes=size,
                              next_event=self._next_event, previous=previous)  # fmt: skip
        self._desk.put("checkpoint.json", encode(note))
        self._before = note
        self._slot += 1


def read_note(desk: TicketDesk) -> CheckpointNote | None:
    """Return the note of the newest uploaded checkpoint, or None when there is none that can be read."""
    content = desk.read("checkpoint.json")
    if content is None:
        return None
    try:
        return decode(CheckpointNote, content, where="checkpoint.json")
    except ContractError as error:
        _log.warning("trainer.note_unreadable error=%s", error)
        return None


def slot_after(note: CheckpointNote | None) -> int:
    """Return the index of the slot to write next: never the one the note names."""
    return 1 if note is not None and note.slot == _SLOTS[0] else 0


def fetch_newest(
    desk: TicketDesk, note: CheckpointNote, file_of: Callable[[int], Path]
) -> tuple[SlotNote | None, list[str]]:
    """Put the newest uploaded checkpoint that is whole into its place.

    Args:
        desk: hands out URLs.
        note: names the newest one and the one before.
        file_of: where the checkpoint of a stage belongs.

    Returns:
        What was taken, if anything, and why newer ones were not.
    """
    refused: list[str] = []
    for slot in (note, note.previous):
        if slot is None:
            continue
        if fetch_checkpoint(desk, slot, file_of(slot.stage)):
            return slot, refused
        refused.append(f"{slot.slot} of epoch {slot.epoch} is not what was uploaded")
    return None, refused


def fetch_checkpoint(desk: TicketDesk, note: SlotNote, file: Path) -> bool:
    """Put an uploaded checkpoint into its place, chunk by chunk; False when it is not what the note says."""
    reply = desk.get(lambda ticket: ticket.get_urls.get(note.slot), note.slot)
    if reply.status != 200 or note.size_bytes > _MAX_CHECKPOINT_BYTES:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    arriving = file.with_name(file.name + ".arriving")
    digest, size = hashlib.sha256(), 0
    with arriving.open("wb") as stream:
        for chunk in reply.chunks:
            size += len(chunk)
            if size > note.size_bytes:
                break
            digest.update(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    if digest.hexdigest() != note.sha256 or size != note.size_bytes:
        _log.warning("trainer.checkpoint_refused slot=%s reason=hash", note.slot)
        arriving.unlink()
        return False
    arriving.replace(file)
    return True
