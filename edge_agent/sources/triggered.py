"""Pass on only the frames a trigger asks for, and see to it that every part it told of is decided.

    due = pulse + delay; a part takes the first frames captured at or after its due moment
    (1) a pulse that became due before another part had all its frames cuts that part off
    (2) of pulses that are due together the newest takes the frame: it shows that part
    (3) a part without all its frames in time gets a blind one, so that it is decided as unsure; a frame
        captured later than that shows something else, however late the part was told of

A frame that nobody asked for is let go.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from edge_agent import counters as names
from edge_agent.backoff import Backoff
from edge_agent.counters import Counters
from edge_agent.errors import SourceError
from edge_agent.events import Events
from edge_agent.sources.base import Frame, FrameReader, Image, clean_part_id
from edge_agent.sources.faults import MISSED
from edge_agent.sources.live import part_name
from edge_agent.sources.trigger import Trigger, TriggerPulse
from fleet_contracts.base import utc_now

AWAY = "camera.away"
EVENT = "camera.trigger-missed"
PROBLEM = "capture.trigger-missed"
"""No `camera.` problem: the part is decided as unsure, so that no output need fail safe for it."""
POLL_S = 0.05
NOTHING: Image = np.zeros((1, 1, 3), np.uint8)
"""The picture of a blind frame; nobody looks at it."""


@dataclass(frozen=True, slots=True)
class TriggerOptions:
    """Say how pulses become frames, in seconds."""

    camera: str
    delay_s: float = 0.0
    timeout_s: float = 1.0
    frames_per_part: int = 1
    retry_limit_s: float = 30.0


@dataclass(slots=True)
class _Part:
    """Hold a part that waits for frames."""

    pulse: TriggerPulse
    part_id: str
    due: float
    given: int = 0
    deadline: float = 0.0


class TriggeredReader:
    """Give one frame, or as many as asked, for every pulse."""

    def __init__(
        self,
        reader: FrameReader,
        trigger: Trigger,
        options: TriggerOptions,
        counters: Counters,
        events: Events,
    ) -> None:
        self._reader = reader
        self._trigger = trigger
        self._options = options
        self._counters = counters
        self._events = events
        self._camera = clean_part_id(options.camera)[:64]
        self._ready: deque[Frame] = deque()
        self._waiting: deque[_Part] = deque()
        self._open: _Part | None = None
        self._kept: Frame | None = None
        self._backoff = Backoff(0.5, options.retry_limit_s)
        self._away_until = 0.0
        self._started = False
        self._count = 0

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame of a part, or a blind one for a part that was missed."""
        if not self._started:
            self._trigger.start()
            self._started = True
        if not self._ready:
            frame = self._look(min(wait_s, POLL_S))
            self._hear()
            # A pulse heard just now may ask for the frame before this one.
            if self._kept is not None and self._assign(self._kept, is_new=False):
                self._kept = None
            if frame is None:
                self._expire(time.monotonic())
            else:
                self._kept = None if self._assign(frame, is_new=True) else frame
        return self._ready.popleft() if self._ready else None

    def is_ended(self) -> bool:
        """Tell whether no frame will ever come again, and every part told of was given out."""
        is_owing = bool(self._ready or self._waiting or self._open)
        return self._reader.is_ended() and not is_owing

    def close(self) -> None:
        """Close trigger and reader."""
        self._trigger.close()
        self._kept = None
        self._reader.close()

    def _look(self, wait_s: float) -> Frame | None:
        """Read the camera; while it is away, pulses go on being heard."""
        if time.monotonic() < self._away_until or self._reader.is_ended():
            self._queue(self._trigger.wait(wait_s))
            return None
        try:
            frame = self._reader.read(wait_s)
        except SourceError as error:
            self._events.set_problem(AWAY, str(error))
            self._away_until = time.monotonic() + self._backoff.next_s()
            return None
        if frame is not None:
            self._events.clear_problem(AWAY)
            self._backoff.reset()
        return frame

    def _hear(self) -> None:
        while self._queue(self._trigger.wait(0.0)):
            pass

    def _queue(self, pulse: TriggerPulse | None) -> bool:
        """Line up a pulse; False if there was none."""
        if pulse is None:
            return False
        self._count += 1
        own_name = f"{part_name(self._camera, utc_now())}-{self._count}"
        part_id = clean_part_id(pulse.part_id) if pulse.part_id else own_name
        due = pulse.at_mono + self._options.delay_s
        self._waiting.append(_Part(pulse, part_id, due, deadline=due + self._options.timeout_s))
        return True

    def _assign(self, frame: Frame, *, is_new: bool) -> bool:
        """Give a frame to the part it shows; False if it shows none.

        A frame that is not new was kept for a pulse that is heard of later than the frame it asks for.
        """
        self._expire(frame.captured_mono)
        due: list[_Part] = []
        while self._waiting and self._waiting[0].due <= frame.captured_mono:
            due.append(self._waiting.popleft())
        if due:
            # (1) and (2)
            for part in ([self._open] if self._open is not None else []) + due[:-1]:
                self._miss(part)
            self._open = due[-1]
        if self._open is None or not (due or is_new):
            return False
        self._give(self._open, frame)
        return True

    def _give(self, part: _Part, frame: Frame) -> None:
        number, part.given = part.given, part.given + 1
        is_last = part.given == self._options.frames_per_part
        self._ready.append(
            replace(
                frame,
                part_id=part.part_id,
                frame_in_part=number,
                # Where the part lay is known by its pulse, better than by the frame that came next.
                captured_mono=part.due if number == 0 else frame.captured_mono,
                last_in_part=is_last,
                flag=part.pulse.flag,
            )
        )
        part.deadline = frame.captured_mono + self._options.timeout_s
        if is_last:
            self._open = None
            self._events.clear_problem(PROBLEM)

    def _expire(self, now: float) -> None:
        """(3) Give up on parts whose frames did not come until then."""
        if self._open is not None and now > self._open.deadline:
            self._miss(self._open)
            self._open = None
        while self._waiting and now > self._waiting[0].deadline:
            self._miss(self._waiting.popleft())

    def _miss(self, part: _Part) -> None:
        """Let a part that lacks frames be decided blindly, and say so."""
        late_s = time.monotonic() - part.due
        self._counters.add(names.MISSED)
        self._events.note(EVENT, part=part.part_id, frames=part.given, late_s=round(late_s, 3))
        self._events.set_problem(
            PROBLEM, f"part {part.part_id} had {part.given} frames; see the counter parts_missed"
        )
        self._ready.append(
            Frame(
                image=NOTHING,
                captured_at=utc_now() - timedelta(seconds=late_s),
                part_id=part.part_id,
                frame_in_part=part.given,
                captured_mono=part.due,
                last_in_part=True,
                flag=part.pulse.flag,
                fault=MISSED,
            )
        )
