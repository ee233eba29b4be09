"""Play the flow's side of a run: a store in memory with plan, manifest, shards, weights and a ticket."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import keys
from fleet_contracts.base import encode, utc_now
from fleet_contracts.ids import run_id_of, sha256_of
from fleet_contracts.training import StartWeights, TicketObject, TrainPlan, TrainStage, TrainTicket
from tests.trainer.scenes import SIZE, TASK, class_list, snapshot, tar_of
from trainer.errors import BackendFailed
from trainer.run import run_ticket
from trainer.wire import MemoryWire, Reply

EVENTS = 40


class _Stopping:
    """Be a store's wire, and stop the run within the call that stores what is waited for."""

    def __init__(self, wire: MemoryWire, when: Callable[[], bool]) -> None:
        self._wire = wire
        self._when = when
        self.stop = threading.Event()

    def get(self, url: str, *, start: int = 0, length: int = 0) -> Reply:
        """Answer as the store does."""
        return self._wire.get(url, start=start, length=length)

    def put(self, url: str, content: bytes | memoryview) -> int:
        """Keep the object as the store does."""
        status = self._wire.put(url, content)
        if self._when():
            self.stop.set()
        return status


class RunStore:
    """Hold a run in a `MemoryWire` and write its ticket file.

    Args:
        weights: start weights.
        stages: epochs of each stage.
    """

    def __init__(
        self, weights: bytes, *, stages: tuple[int, ...] = (2,), splits: dict[str, int] | None = None
    ) -> None:
        self.wire = MemoryWire()
        self.snapshot_id, manifest, images = snapshot(splits or {"train": 10, "val": 3, "golden": 2})
        start = sha256_of(weights)
        self.run_id = run_id_of(task_id=TASK, snapshot_id=self.snapshot_id, start_sha256=start, recipe={})
        self.plan = TrainPlan(
            task_id=TASK, run_id=self.run_id, snapshot_id=self.snapshot_id, class_list=class_list(),
            start=StartWeights(kind="origin", sha256=start, key="origins/start.pt"), recipe="test", threads=1,
            stages=tuple(TrainStage(image_size=SIZE, epochs=epochs, batch=4) for epochs in stages),
        )  # fmt: skip
        rows = sorted(images.items())
        half = len(rows) // 2
        self.shards = [tar_of(dict(rows[:half])), tar_of(dict(rows[half:]))]
        self.put("plan.json", encode(self.plan))
        self.put("manifest.jsonl", manifest)
        self.put("start.pt", weights)
        for number, shard in enumerate(self.shards):
            self.put(f"shard-{number}", shard)
        self.weights = weights
        self.renew()

    def url(self, name: str) -> str:
        """Return the URL an object has in this store."""
        return f"https://store/{name}?signature=secret"

    def put(self, name: str, content: bytes) -> None:
        """Keep an object."""
        self.wire.objects[self.url(name)] = content

    def get(self, name: str) -> bytes | None:
        """Return an object."""
        return self.wire.objects.get(self.url(name))

    def ticket(self, *, minutes: float = 60.0) -> TrainTicket:
        """Return a ticket that ends in so many minutes."""
        names = [*keys.RUN_OUTPUTS, *(keys.event_name(number) for number in range(EVENTS))]
        urls = {name: self.url(name) for name in names}
        return TrainTicket(
            task_id=TASK, run_id=self.run_id, plan_url=self.url("plan.json"),
            manifest_url=self.url("manifest.jsonl"), put_urls=urls, get_urls=urls,
            shards=tuple(
                TicketObject(name=f"shard-{number}", url=self.url(f"shard-{number}"), sha256=sha256_of(shard),
                             size_bytes=len(shard))
                for number, shard in enumerate(self.shards)
            ),
            start_weights=TicketObject(name="start.pt", url=self.url("start.pt"), sha256=sha256_of(self.weights),
                                       size_bytes=len(self.weights)),
            renew_url=self.url("ticket.json"), expires_at=utc_now() + timedelta(minutes=minutes),
        )  # fmt: skip

    def renew(self) -> None:
        """Write a fresh ticket where `renew_url` points, as the flow does in time."""
        self.put("ticket.json", encode(self.ticket()))

    def ticket_file(self, folder: Path, ticket: TrainTicket | None = None) -> Path:
        """Write a ticket to a file, as a launch does."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "ticket.json"
        path.write_bytes(encode(ticket or self.ticket()))
        return path

    def interrupt(self, folder: Path, when: Callable[[], bool], what: str = "a checkpoint") -> None:
        """Train in a work folder until the store shows something, and stop before anything else is stored."""
        wire = _Stopping(self.wire, when)
        try:
            run_ticket(self.ticket_file(folder.parent), folder, wire=wire, stop=wire.stop)
        except BackendFailed:
            assert wire.stop.is_set(), f"it failed before the store showed {what}"
        else:
            pytest.fail(f"the run was not interrupted; shown: {wire.stop.is_set()}")

    def events(self) -> list[str]:
        """Return the kinds of the events that arrived, in their order."""
        from fleet_contracts.base import decode
        from fleet_contracts.training import RunEvent

        kinds = []
        for number in range(EVENTS):
            content = self.get(keys.event_name(number))
            if content is None:
                break
            event = decode(RunEvent, content, where=str(number))
            assert event.number == number
            kinds.append(event.kind)
        return kinds
