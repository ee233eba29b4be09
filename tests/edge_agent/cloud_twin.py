"""Be the cloud as a box sees it: grants with URLs of a real PUT server, receipts for what arrived.

It speaks over any `Link`, in memory or through a real broker. Like the real ingest it answers what it has
with receipts, checks hash and announcement before it gives one, and finds unannounced objects by `sweep`.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import timedelta

from edge_agent.link.base import Link, LinkHandlers, LinkOptions
from fleet_contracts import topics
from fleet_contracts.base import WireDocument, decode, encode, utc_now
from fleet_contracts.ids import sample_id_of
from fleet_contracts.messages import (
    Announcement,
    CaptureCommand,
    CommandAnswer,
    Grant,
    GrantedUpload,
    GrantRequest,
    OrderRequest,
    Outcome,
    Receipt,
    ReceiptItem,
)
from fleet_contracts.releases import DeviceReport, RolloutOrder
from fleet_contracts.samples import HardExample
from tests.edge_agent.put_server import PutServer


def cloud_options() -> LinkOptions:
    """Return how the cloud's side of a link connects."""
    return LinkOptions(client_id="cloud-twin", filters=(topics.all_up(),))


class CloudTwin:
    """Play ingest for every box of one task.

    `gives_grants` and `gives_receipts` switch answers off; `grant_s` is the life of a grant; samples in
    `forgotten` are answered so.
    """

    def __init__(self, task_id: str, link: Link, store: PutServer) -> None:
        self.task_id = task_id
        self.gives_grants = True
        self.gives_receipts = True
        self.grant_s = 900.0
        self.forgotten: set[str] = set()
        self.catalog: dict[str, HardExample] = {}
        self.outcomes: Counter[str] = Counter()
        self.heard: list[str] = []
        self.reports: dict[str, DeviceReport] = {}
        self.statuses: dict[str, DeviceReport] = {}
        self.order_requests: list[OrderRequest] = []
        self.answers: list[CommandAnswer] = []
        self._link = link
        self._store = store
        self._grants: dict[str, str] = {}
        self._lock = threading.RLock()

    def start(self) -> None:
        """Begin to answer."""
        self._link.start(LinkHandlers(self._on_message))

    def stop(self) -> None:
        """Stop answering."""
        self._link.stop()

    def order(self, device_id: str, release_version: int, *, channel: str = "stable") -> RolloutOrder:
        """Publish a retained order."""
        order = RolloutOrder(
            task_id=self.task_id,
            device_id=device_id,
            rollout_id=f"rollout-{release_version}",
            channel=channel,
            release_version=release_version,
            issued_at=utc_now(),
        )
        self._send(device_id, "order", order, retain=True)
        return order

    def ask_for_capture(
        self, device_id: str, frames: int, *, command_id: str = "", seconds: float = 60
    ) -> None:
        """Ask a box to keep its next frames."""
        command = CaptureCommand(
            task_id=self.task_id,
            device_id=device_id,
            frames=frames,
            asked_by="test",
            command_id=command_id or uuid.uuid4().hex,
            expires_at=utc_now() + timedelta(seconds=seconds),
        )
        self._send(device_id, "capture", command)

    def sweep(self) -> None:
        """Take in what lies in the bucket though no message announced it (law 1)."""
        with self._lock:
            for grant_id, device_id in self._grants.items():
                found = [
                    path.split("/")[2]
                    for path in list(self._store.objects)
                    if path.startswith(f"/{grant_id}/") and not path.endswith(".json")
                ]
                self._take_in(grant_id, device_id, found)

    def receipt_for(self, device_id: str, sample_id: str, outcome: Outcome = "duplicate") -> None:
        """Send a receipt unasked, as a late or repeated one."""
        self._send(
            device_id,
            "receipt",
            Receipt(
                task_id=self.task_id,
                device_id=device_id,
                items=(ReceiptItem(sample_id=sample_id, outcome=outcome),),
            ),
        )

    def _on_message(self, topic: str, payload: bytes) -> None:
        place = topics.parse(topic)
        with self._lock:
            self.heard.append(place.kind)
            if place.kind == "grant-request":
                self._grant(decode(GrantRequest, payload, where=topic))
            elif place.kind == "uploaded":
                announcement = decode(Announcement, payload, where=topic)
                self._take_in(announcement.grant_id, announcement.device_id, list(announcement.sample_ids))
            elif place.kind == "report":
                self.reports[place.device_id] = decode(DeviceReport, payload, where=topic)
            elif place.kind == "status":
                self.statuses[place.device_id] = decode(DeviceReport, payload, where=topic)
            elif place.kind == "command-answer":
                self.answers.append(decode(CommandAnswer, payload, where=topic))
            else:
                self.order_requests.append(decode(OrderRequest, payload, where=topic))

    def _grant(self, request: GrantRequest) -> None:
        known = [item.sample_id for item in request.items if item.sample_id in self.catalog]
        self._answer(request.device_id, dict.fromkeys(known, "duplicate"))
        forgotten = [item.sample_id for item in request.items if item.sample_id in self.forgotten]
        self._answer(request.device_id, dict.fromkeys(forgotten, "forgotten"))
        wanted = [item.sample_id for item in request.items if item.sample_id not in {*known, *forgotten}]
        if not wanted or not self.gives_grants:
            return
        grant_id = uuid.uuid4().hex
        self._grants[grant_id] = request.device_id
        base = f"{self._store.url}/{grant_id}"
        self._send(
            request.device_id,
            "grant",
            Grant(
                task_id=self.task_id,
                device_id=request.device_id,
                request_id=request.request_id,
                grant_id=grant_id,
                expires_at=utc_now() + timedelta(seconds=self.grant_s),
                uploads=tuple(
                    GrantedUpload(
                        sample_id=one,
                        image_url=f"{base}/{one}?signature=secret",
                        announcement_url=f"{base}/{one}.json?signature=secret",
                    )
                    for one in wanted
                ),
            ),
        )

    def _take_in(self, grant_id: str, device_id: str, sample_ids: list[str]) -> None:
        outcomes: dict[str, Outcome] = {}
        for sample_id in sample_ids:
            image = self._store.objects.get(f"/{grant_id}/{sample_id}")
            sidecar = self._store.objects.get(f"/{grant_id}/{sample_id}.json")
            if image is None or sidecar is None:
                continue
            if sample_id_of(image) != sample_id:
                outcomes[sample_id] = "quarantined"
                continue
            outcomes[sample_id] = "duplicate" if sample_id in self.catalog else "stored"
            self.catalog[sample_id] = decode(HardExample, sidecar, where=sample_id)
        self._answer(device_id, outcomes)

    def _answer(self, device_id: str, outcomes: dict[str, Outcome]) -> None:
        self.outcomes.update(outcomes.values())
        if outcomes and self.gives_receipts:
            items = tuple(ReceiptItem(sample_id=one, outcome=outcome) for one, outcome in outcomes.items())
            self._send(device_id, "receipt", Receipt(task_id=self.task_id, device_id=device_id, items=items))

    def _send(
        self, device_id: str, kind: topics.DownKind, document: WireDocument, *, retain: bool = False
    ) -> None:
        self._link.publish(topics.down(self.task_id, device_id, kind), encode(document), retain=retain)
