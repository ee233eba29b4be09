"""Be a box's data side in a process of its own: real outbox, writer, link and uploader; frames are made up.

    python -m tests.edge_agent.power_cut.offline_box CONFIG FIRST COUNT

It hands COUNT frames to the writer, six seconds of the outbox's clock apart, writes the id of each example the
outbox has accepted to standard output, with the milliseconds its add() took, and goes on uploading for ever.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np

from detection.detections import Detections
from edge_agent.config import AgentConfig, load_config
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.inbox import Inbox, Recipients
from edge_agent.link import LinkHandlers, LinkOptions
from edge_agent.link.mqtt import MqttLink
from edge_agent.outbox import DiskGuard, KeptFrame, Outbox, OutboxWriter, PartDone
from edge_agent.sources.base import Frame
from edge_agent.upload import Uploader
from edge_agent.upload.http import HttpPutter
from fleet_contracts import topics
from fleet_contracts.samples import HardExample, Reason
from tests.edge_agent.builders import WHEN, jpeg

EXAMPLE_S = 6.0
"""Ten examples a minute."""
PICTURES = [jpeg(seed, 48) for seed in range(50)]


def image_of(number: int) -> bytes:
    """Return a JPEG that no other number has; what follows its end marker does not show."""
    return PICTURES[number % len(PICTURES)] + number.to_bytes(8, "big")


class TellingOutbox(Outbox):
    """Write the id of each accepted example to standard output once `add` has returned."""

    def add(self, image: bytes, example: HardExample, counts: Mapping[str, int]) -> bool:
        began = time.perf_counter()
        is_new = super().add(image, example, counts)
        took_ms = (time.perf_counter() - began) * 1000
        if is_new:
            sys.stdout.write(f"{example.sample_id} {took_ms:.3f}\n")
            sys.stdout.flush()
        return is_new


class OfflineBox:
    """Wire the data side of a box; its outbox's clock is moved by the frames."""

    def __init__(self, config: AgentConfig) -> None:
        self._fed_s = 0.0
        began = time.monotonic()
        folder, guard = config.data_dir / "outbox", DiskGuard.from_config(config.outbox, config.data_dir)
        self.outbox = TellingOutbox(folder, guard, lambda: self._fed_s + time.monotonic() - began)
        self.counters, self.events = Counters(self.outbox.stored_counts()), Events()
        self.writer = OutboxWriter(config, self.outbox, self.counters, self.events)
        options = LinkOptions(config.device_id, (topics.all_down(config.task_id, config.device_id),))
        self.link = MqttLink(config.broker, options, self.events)
        notes = (self.counters, self.events)
        self.uploader = Uploader(config, self.outbox, self.link, HttpPutter(), notes)

    def start(self, config: AgentConfig) -> None:
        """Start every part."""
        recipients = Recipients(
            self.uploader.on_grant, self.uploader.on_receipt, lambda _: None, lambda _: None
        )
        inbox = Inbox(config, recipients, self.events)
        self.writer.start()
        self.link.start(LinkHandlers(inbox.on_message, self.uploader.on_connected))
        threading.Thread(target=self.uploader.run, args=(threading.Event(),), daemon=True).start()

    def feed(self, first: int, count: int) -> None:
        """Hand frames over as a source that can wait does."""
        nothing = Detections.empty()
        for number in range(first, first + count):
            while not self.writer.has_room():
                time.sleep(0.002)
            self._fed_s += EXAMPLE_S
            captured_at = WHEN + timedelta(seconds=EXAMPLE_S * number)
            frame = Frame(np.zeros((48, 48, 3), np.uint8), captured_at, f"part-{number}", 0, f"{number}.jpg",
                          image_of(number))  # fmt: skip
            reason = Reason(rule="uncertain", score=round((number * 7919 % 1000) / 1000, 3))
            self.writer.keep(KeptFrame(frame, nothing, "a" * 64, 1, "unsure", (reason,)))
            self.writer.part_done(PartDone(frame.part_id, (frame.token,), {"frames_inspected": 1}))


def main() -> None:
    """Feed, then upload until killed."""
    config = load_config(Path(sys.argv[1]))
    box = OfflineBox(config)
    box.start(config)
    box.feed(int(sys.argv[2]), int(sys.argv[3]))
    while True:
        time.sleep(0.5)
        sys.stdout.write(f"waiting {box.outbox.waiting()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
