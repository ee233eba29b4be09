"""Answer what boxes say: one method per kind of message, each safe to run twice.

A box speaks for itself alone: a document that names another task or device than its topic is refused.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from fleet_contracts import ForeignDocument, decode, encode, topics
from fleet_contracts.keys import Incoming
from fleet_contracts.messages import (
    MAX_ITEMS,
    Announcement,
    CommandAnswer,
    GrantRequest,
    OrderRequest,
    Receipt,
    ReceiptItem,
)
from fleet_contracts.releases import DeviceReport
from fleet_contracts.topics import Topic
from flows.context import Context
from flows.database.schema import GrantRow
from flows.events import EventSink, PrefectEvents
from flows.ingest import orders
from flows.ingest.captures import take_answer
from flows.ingest.commit import commit_upload
from flows.ingest.devices import take_report
from flows.ingest.grants import answer_request
from flows.ingest.link import CloudLink
from flows.ingest.sweep import sweep_incoming

log = logging.getLogger("whetstone.flows")
D = TypeVar("D", Announcement, CommandAnswer, GrantRequest, OrderRequest, DeviceReport)


class Desk:
    """Handle messages and sweeps of one installation; used by one thread.

    Attributes:
        counts: what happened, by name, since the process began.
        events: where the trigger is told.
    """

    def __init__(self, ctx: Context, link: CloudLink, events: EventSink | None = None) -> None:
        self.ctx = ctx
        self.events: EventSink = events or PrefectEvents()
        self.counts: Counter[str] = Counter()
        self._link = link

    def handle(self, topic_text: str, payload: bytes) -> None:
        """Act on one message.

        Raises:
            ContractError: the message is malformed or speaks for somebody else; nothing was done.
            UnknownTask: it speaks of a task this installation does not serve.
            StoreAway, DatabaseAway: it could not be acted on now; a sweep or the box's next try will.
        """
        topic = topics.parse(topic_text)
        self.ctx.settings.task(topic.task_id)
        self.counts[f"heard.{topic.kind}"] += 1
        if topic.kind == "grant-request":
            self._grant(_read(GrantRequest, topic, payload))
        elif topic.kind == "uploaded":
            self._uploaded(_read(Announcement, topic, payload))
        elif topic.kind in ("report", "status"):
            take_report(self.ctx, _read(DeviceReport, topic, payload))
        elif topic.kind == "order-request":
            orders.answer(self.ctx, self._link, _read(OrderRequest, topic, payload))
        elif topic.kind == "command-answer":
            answer = _read(CommandAnswer, topic, payload)
            self.counts[f"capture.{take_answer(self.ctx, answer)}"] += 1

    def sweep(self) -> None:
        """Take in what lies in `incoming/` of every task, and tell the boxes."""
        for task_id in self.ctx.settings.tasks:
            for swept in sweep_incoming(self.ctx, task_id):
                self._count([swept.item])
                if swept.device_id is not None:
                    self._send_receipts(task_id, swept.device_id, [swept.item])

    def _grant(self, request: GrantRequest) -> None:
        answer = answer_request(self.ctx, request)
        if answer.receipts:
            self._send_receipts(request.task_id, request.device_id, answer.receipts)
        if answer.grant is not None:
            topic = topics.down(request.task_id, request.device_id, "grant")
            self._link.publish(topic, encode(answer.grant))

    def _uploaded(self, announcement: Announcement) -> None:
        with self.ctx.database.reader() as session:
            grant = session.get(GrantRow, announcement.grant_id)
        if grant is not None and grant.device_id != announcement.device_id:
            raise ForeignDocument(
                expected=f"a grant of {announcement.device_id}",
                got=f"one of {grant.device_id}",
                where=f"announcement of grant {announcement.grant_id}",
            )
        done: list[ReceiptItem] = []
        for sample_id in announcement.sample_ids:
            upload = Incoming(announcement.task_id, announcement.grant_id, sample_id, "image")
            item = commit_upload(self.ctx, upload)
            if item is not None:
                done.append(item)
        self._count(done)
        self._send_receipts(announcement.task_id, announcement.device_id, done)

    def _send_receipts(self, task_id: str, device_id: str, items: Iterable[ReceiptItem]) -> None:
        items = list(items)
        for start in range(0, len(items), MAX_ITEMS):
            receipt = Receipt(
                task_id=task_id, device_id=device_id, items=tuple(items[start : start + MAX_ITEMS])
            )
            self._link.publish(topics.down(task_id, device_id, "receipt"), encode(receipt))

    def _count(self, items: Iterable[ReceiptItem]) -> None:
        for item in items:
            self.counts[f"receipt.{item.outcome}"] += 1


def _read(kind: type[D], topic: Topic, payload: bytes) -> D:
    document = decode(kind, payload, where=f"topic {topic.kind} of {topic.device_id}")
    if (document.task_id, document.device_id) != (topic.task_id, topic.device_id):
        raise ForeignDocument(
            expected=f"{topic.task_id}/{topic.device_id}",
            got=f"{document.task_id}/{document.device_id}",
            where=f"{kind.__name__} on topic {topic.kind}",
        )
    return document
