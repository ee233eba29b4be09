"""Drive examples from the outbox to their receipt.

    (1) ask for a grant: ids and sizes of what is due, most valuable first, under an own request id that ends
    (2) put each image, then its announcement, to the granted URLs
    (3) announce what was put by message
    (4) wait for the receipt; only it deletes a row
    (5) what was put is announced again, twice; whatever is still not answered is asked for again from (1);
        both with jittered back-off

Every message may be lost and every answer may come twice or late; each step done again does no harm. What
the cloud already has comes back as a receipt instead of a URL, so asking for a sent row costs one message.
Outside the configured windows only urgent examples are asked for; what was put is announced at any time.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from datetime import timedelta

from edge_agent import counters as names
from edge_agent.backoff import Backoff, jittered, wait_after
from edge_agent.care.store_address import StoreAddress
from edge_agent.config import AgentConfig
from edge_agent.counters import Counters
from edge_agent.errors import StoreAway, UploadRefused
from edge_agent.events import Events
from edge_agent.link.base import Link
from edge_agent.outbox.books import WaitingRow
from edge_agent.outbox.outbox import Outbox
from edge_agent.upload.base import Putter
from edge_agent.upload.schedule import Schedule
from fleet_contracts import topics
from fleet_contracts.base import encode, utc_now
from fleet_contracts.messages import (
    MAX_ITEMS,
    Announcement,
    Grant,
    GrantedUpload,
    GrantItem,
    GrantRequest,
    Receipt,
)

logger = logging.getLogger("whetstone.edge.upload")
MAX_DOUBLINGS = 4
"""An unanswered row waits at most 2**4 times `outbox.retry_s`."""
ANSWER_S = 60.0
"""How long a request is open at most; ingest need not answer it afterwards."""
GRANT_USED_S = 300.0
"""At a limited rate only so much is asked for as goes out within this time: grants end."""


class Uploader:
    """Bring examples to the cloud; messages come in on the link's thread, work is done on its own."""

    def __init__(
        self, config: AgentConfig, outbox: Outbox, link: Link, putter: Putter, notes: tuple[Counters, Events]
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._link = link
        self._putter = putter
        self._counters, self._events = notes
        self.schedule = Schedule(config.upload)
        self._inbox: queue.Queue[Grant | Receipt | None] = queue.Queue(maxsize=256)
        self._open_request = ""
        self._open_until = 0.0
        self._store_backoff = Backoff(config.outbox.retry_s, config.outbox.retry_s * 2**MAX_DOUBLINGS)
        self._store_rests_until = 0.0
        self._store_address = StoreAddress(config.data_dir)

    # Called by the link.

    def on_grant(self, grant: Grant) -> None:
        """Take a grant in; a full inbox lets it go, since it will be asked for again."""
        self._take_in(grant)

    def on_receipt(self, receipt: Receipt) -> None:
        """Take a receipt in; a full inbox lets it go, since the cloud repeats it when asked."""
        self._take_in(receipt)

    def on_connected(self) -> None:
        """Ask at once, for answers may have been lost while the broker was away."""
        self._open_request = ""
        self.wake()

    def wake(self) -> None:
        """Look at the outbox now."""
        self._take_in(None)

    def _take_in(self, message: Grant | Receipt | None) -> None:
        try:
            self._inbox.put_nowait(message)
        except queue.Full:
            self._events.note("upload.inbox-full")

    # The thread.

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; the body of the uploader's thread."""
        while not stop.is_set():
            try:
                self.step(stop, wait_s=min(0.25, self._config.outbox.retry_s))
            except Exception as error:  # the thread's outer edge: told, and tried again after a rest
                if stop.is_set():
                    # The outbox was closed under a put that outlasted the end; it is asked for again.
                    return
                self._events.set_problem("upload.failed", f"{type(error).__name__}: {error}")
                logger.exception("upload.failed")
                stop.wait(self._config.outbox.retry_s)
            else:
                self._events.clear_problem("upload.failed")

    def step(self, stop: threading.Event, wait_s: float) -> None:
        """Handle one message if one comes within `wait_s`, then ask for what is due."""
        try:
            message = self._inbox.get(timeout=wait_s)
        except queue.Empty:
            message = None
        if isinstance(message, Receipt):
            self._settle(message)
        elif isinstance(message, Grant):
            self._use(message, stop)
        if self._inbox.empty():
            self._announce_again()
            self._ask()

    def _announce_again(self) -> None:
        """(5) Say again that rows were put, under the grant they were put under."""
        if not self._link.is_connected():
            return
        by_grant: dict[str, list[WaitingRow]] = {}
        for row in self._outbox.unanswered(MAX_ITEMS):
            by_grant.setdefault(row.grant_id, []).append(row)
        for grant_id, rows in by_grant.items():
            ids = [row.sample_id for row in rows]
            self._announce(grant_id, ids)
            self._events.note("upload.announced-again", grant=grant_id, samples=len(ids))
            self._outbox.postpone(ids, self._wait_s(1 + min(row.attempts for row in rows)))

    def _ask(self) -> None:
        """(1) Ask for a grant, unless a request is open, the broker is away, or the store needs a rest."""
        now = time.monotonic()
        if now < self._store_rests_until or (self._open_request and now < self._open_until):
            return
        if not self._link.is_connected():
            return
        due = self._wanted_now()
        if not due:
            return
        wait_s = self._wait_s(min(row.attempts for row in due))
        request = GrantRequest(
            task_id=self._config.task_id,
            device_id=self._config.device_id,
            request_id=uuid.uuid4().hex,
            expires_at=utc_now() + timedelta(seconds=ANSWER_S),
            items=tuple(GrantItem(sample_id=row.sample_id, size_bytes=row.size_bytes) for row in due),
        )
        if not self._publish("grant-request", encode(request)):
            return
        self._open_request, self._open_until = request.request_id, now + wait_s
        self._outbox.postpone([row.sample_id for row in due], wait_s)

    def _wanted_now(self) -> list[WaitingRow]:
        """Return what to ask for: due, allowed at this time, and no more than a grant's life lets through."""
        due = self._outbox.due(MAX_ITEMS, self.schedule.least_value())
        rate = self._config.upload.rate_limit_kib_s * 1024
        if rate == 0:
            return due
        budget, taken = rate * GRANT_USED_S, 0
        for number, row in enumerate(due):
            taken += row.size_bytes
            if number and taken > budget:
                return due[:number]
        return due

    def _use(self, grant: Grant, stop: threading.Event) -> None:
        """(2) and (3) Put what a grant allows and announce it."""
        if grant.expires_at <= utc_now():
            self._events.note("upload.grant-expired", grant=grant.grant_id)
            return
        if grant.request_id == self._open_request:
            self._open_request = ""
        self._outbox.mark_granted([upload.sample_id for upload in grant.uploads], grant.grant_id)
        sent: list[str] = []
        for upload in grant.uploads:
            # A slow line may outlast the grant; what is left is asked for again.
            if stop.is_set() or grant.expires_at <= utc_now() or not self._put(upload, sent):
                break
        if sent:
            self._outbox.mark_sent(sent, self._wait_s(1))
            self._events.note("upload.sent", grant=grant.grant_id, samples=len(sent))
            self._announce(grant.grant_id, sent)
        left = [upload.sample_id for upload in grant.uploads if upload.sample_id not in sent]
        self._outbox.postpone(left, self._config.outbox.retry_s)

    def _put(self, upload: GrantedUpload, sent: list[str]) -> bool:
        """Put one image and its announcement; return whether the rest of the grant is worth trying."""
        files = self._outbox.read(upload.sample_id)
        if files is None:
            # Answered by an earlier receipt, or not ours.
            return True
        image, announcement = files
        try:
            # The image first: an announcement in the bucket then always has its image.
            self._putter.put(upload.image_url, image, "image/jpeg")
            self._putter.put(upload.announcement_url, announcement, "application/json")
            self._counters.add(names.UPLOADED_BYTES, len(image) + len(announcement))
            self._store_address.remember(upload.image_url)
        except StoreAway as error:
            wait_s = self._store_backoff.next_s()
            self._store_rests_until = time.monotonic() + wait_s
            self._events.set_problem("store.away", str(error))
            return False
        except UploadRefused as error:
            self._events.set_problem("store.refused", str(error))
            return True
        self._store_backoff.reset()
        self._events.clear_problem("store.away")
        self._events.clear_problem("store.refused")
        sent.append(upload.sample_id)
        return True

    def _announce(self, grant_id: str, sent: list[str]) -> None:
        announcement = Announcement(
            task_id=self._config.task_id,
            device_id=self._config.device_id,
            grant_id=grant_id,
            sample_ids=tuple(sent[:MAX_ITEMS]),
        )
        self._publish("uploaded", encode(announcement))

    def _settle(self, receipt: Receipt) -> None:
        """(4) Delete what the cloud has answered for."""

        def counts(deleted: int) -> dict[str, int]:
            return {names.RECEIPTS: deleted}

        deleted = self._outbox.forget([item.sample_id for item in receipt.items], counts)
        self._counters.add_stored(counts(deleted))
        # A receipt without a grant answers a request for samples the cloud already has.
        self._open_request = ""
        for item in receipt.items:
            if item.outcome in ("quarantined", "forgotten"):
                self._events.note(
                    "upload.not-used", sample=item.sample_id, outcome=item.outcome, detail=item.detail
                )
        self._events.note("upload.receipts", samples=deleted)

    def _wait_s(self, attempts: int) -> float:
        first_s = self._config.outbox.retry_s
        return jittered(wait_after(attempts, first_s, first_s * 2**MAX_DOUBLINGS))

    def _publish(self, kind: topics.UpKind, payload: bytes) -> bool:
        return self._link.publish(topics.up(self._config.task_id, self._config.device_id, kind), payload)
