"""Wire a box's upload side to a cloud twin, for tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.inbox import Inbox, Recipients
from edge_agent.link import LinkHandlers, LinkOptions, MemoryBroker, MemoryLink
from edge_agent.outbox import DiskGuard, Outbox
from edge_agent.upload import Uploader
from edge_agent.upload.http import HttpPutter
from edge_agent.upload.rate import TokenBucket
from fleet_contracts import topics
from fleet_contracts.ids import sample_id_of
from fleet_contracts.samples import Reason
from tests.edge_agent.builders import DEVICE, TASK, example_of, jpeg
from tests.edge_agent.cloud_twin import CloudTwin, cloud_options
from tests.edge_agent.put_server import PutServer


class Bench:
    """Be a box's upload side, wired to a cloud twin through an in-memory broker and a real HTTP store."""

    def __init__(self, config: AgentConfig, folder: Path, store: PutServer) -> None:
        self.broker, self.store = MemoryBroker(), store
        self.cloud = CloudTwin(TASK, MemoryLink(self.broker, cloud_options()), store)
        self.outbox = Outbox(folder, DiskGuard(10**9, 0))
        self.counters, self.events = Counters(), Events()
        options = LinkOptions("box", (topics.all_down(TASK, DEVICE),))
        self.link = MemoryLink(self.broker, options)
        self.uploader = Uploader(
            config, self.outbox, self.link, _putter(config), (self.counters, self.events)
        )
        nothing = Recipients(self.uploader.on_grant, self.uploader.on_receipt, lambda _: None, lambda _: None)
        self._inbox = Inbox(config, nothing, self.events)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.uploader.run, args=(self._stop,), daemon=True)
        self.ids: list[str] = []

    def fill(self, count: int, values: Sequence[float] = (), size: int = 64) -> None:
        """Keep pictures; of the values that are given, each its own."""
        for number in range(len(self.ids), len(self.ids) + count):
            image = jpeg(number, size)
            example = example_of(image, part=f"part-{number}")
            if values:
                reason = Reason(rule="uncertain", score=values[number])
                example = example.model_copy(update={"reasons": (reason,)})
            self.outbox.add(image, example, {})
            self.ids.append(sample_id_of(image))

    def start(self) -> None:
        self.cloud.start()
        self.link.start(LinkHandlers(self._inbox.on_message, self.uploader.on_connected))
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self.outbox.close()

    def all_arrived(self) -> bool:
        return self.outbox.waiting() == 0 and set(self.cloud.catalog) == set(self.ids)


def _putter(config: AgentConfig) -> HttpPutter:
    return HttpPutter(bucket=TokenBucket(config.upload.rate_limit_kib_s * 1024))
