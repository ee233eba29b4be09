"""Mirror a run into the tracking store while a flow works on it; no outage of the store fails or holds it.

(1) When its training begins: what is known already.
(2) At each epoch and rung: its numbers.
(3) When the training ends, and when the flow ends, however it ends: everything again, from bucket and
    database. What an outage kept from being written until then is written by a later flow of the run, or by
    `whetstone runs track`.

All of it is written by a thread: the flow goes on, and waits some seconds at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fleet_contracts import utc_now
from fleet_contracts.training import RunEvent
from flows.context import Context
from flows.errors import FlowsError
from flows.tracking.base import Picture, Tracker
from flows.tracking.gather import story_of
from flows.tracking.picturing import picture_of, picture_of_event
from flows.tracking.place import tracker_of
from trainer.tracking.scribe import END_SECONDS, RETRY_SECONDS, Scribe

log = logging.getLogger("whetstone.tracking")


class Mirror:
    """Write one run into the tracking store, from a thread of its own.

    Args:
        ctx: the installation.
        task_id: the run's task.
        run_id: the run.
        tracker: where to; None writes nowhere.
        retry_seconds: pause after a failure.
    """

    def __init__(
        self,
        ctx: Context,
        task_id: str,
        run_id: str,
        tracker: Tracker | None,
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._ctx = ctx
        self._task_id = task_id
        self._run_id = run_id
        self._scribe = None if tracker is None else Scribe(_TrackerBook(tracker), retry_seconds=retry_seconds)

    def heard(self, event: RunEvent) -> None:
        """Write what an event adds."""
        try:
            picture = picture_of_event(event)
        except Exception as error:  # noqa: BLE001 - a machine wrote it; the training it tells of goes on
            log.warning("tracking.event_not_read run=%s error=%r", self._run_id, error)
            return
        if picture is not None:
            self._put(picture)

    def whole(self) -> None:
        """Write everything that is known."""
        if self._scribe is None:
            return
        try:
            self._put(picture_of(story_of(self._ctx, self._task_id, self._run_id), utc_now()))
        except Exception as error:  # noqa: BLE001 - no outage and no document may end the flow
            log.warning("tracking.not_gathered run=%s error=%r", self._run_id, error)

    def close(self, seconds: float = END_SECONDS) -> None:
        """Wait for what is left to be written; a store that failed to answer is waited for so long."""
        if self._scribe is not None:
            self._scribe.close(seconds)
            self._tell()

    def _put(self, picture: Picture) -> None:
        if self._scribe is not None:
            self._scribe.put(picture)
            self._tell()

    def _tell(self) -> None:
        for why in self._scribe.problems() if self._scribe else ():
            log.warning("tracking.away run=%s why=%s", self._run_id, why)


class _TrackerBook:
    """Be a tracker as a scribe's book: pictures name their run themselves, so there is nothing to open."""

    name = "tracking store"

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def open(self) -> None:
        """Do nothing; the first picture opens the store."""

    def write(self, entry: Picture) -> None:
        """Write a picture."""
        self._tracker.write(entry)

    def close(self) -> None:
        """Do nothing; the run's state says how it ended."""


@contextmanager
def mirrored(ctx: Context, task_id: str, run_id: str) -> Iterator[Mirror]:
    """Mirror a run from before to after the block, which tells its events."""
    mirror = mirror_of(ctx, task_id, run_id)
    # (1)
    mirror.whole()
    try:
        # (2)
        yield mirror
    finally:
        # (3)
        mirror.whole()
        mirror.close()


@contextmanager
def mirrored_in_the_end(ctx: Context, task_id: str, run_id: str) -> Iterator[None]:
    """Mirror a run when the block has ended, however it ended."""
    try:
        yield
    finally:
        mirror = mirror_of(ctx, task_id, run_id)
        mirror.whole()
        mirror.close()


def mirror_of(ctx: Context, task_id: str, run_id: str) -> Mirror:
    """Return a run's mirror; where no store can be named, it writes nowhere and says so in the log."""
    try:
        tracker = tracker_of(ctx, task_id)
    except (FlowsError, OSError) as error:
        # Whoever asks for tracking by hand is told; a flow goes on without it.
        log.warning("tracking.not_opened task=%s error=%s", task_id, error)
        tracker = None
    return Mirror(ctx, task_id, run_id, tracker)
