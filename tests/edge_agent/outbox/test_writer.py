"""Test the thread between loop and disk: order, losses that are counted, and a loop that never waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.counters import LOST, LOST_VALUE, Counters
from edge_agent.events import Events
from edge_agent.outbox import DiskGuard, KeptFrame, Outbox, OutboxWriter, PartDone, PartKey
from fleet_contracts.base import decode
from fleet_contracts.samples import HardExample, Reason
from tests.edge_agent.builders import boxes, config_of, frame_of, jpeg
from tests.helpers import wait_until

REASON = Reason(rule="uncertain", score=1.0)


class SlowOutbox(Outbox):
    """Hold every write until the test lets it go, and note the order of things."""

    gate = threading.Event()
    order: list[str]

    def add(self, image: bytes, example: HardExample, counts: Mapping[str, int]) -> bool:
        self.gate.wait(10)
        self.order.append(example.sightings[0].part_id)
        return super().add(image, example, counts)

    def mark_done(
        self, source: str, tokens: Sequence[str], counts: Mapping[str, int], parts: Sequence[PartKey] = ()
    ) -> None:
        self.order.extend(f"done {token}" for token in tokens)
        super().mark_done(source, tokens, counts, parts)


def kept(seed: int) -> KeptFrame:
    return KeptFrame(frame_of(seed, token=f"{seed}.jpg"), boxes((0.4, 1)), "a" * 64, 3, "unsure", (REASON,))


@pytest.fixture
def counters() -> Counters:
    return Counters()


def writer_of(
    folder: Path, outbox: Outbox, counters: Counters, **section: object
) -> tuple[OutboxWriter, Events]:
    events = Events()
    return OutboxWriter(config_of(folder, outbox=section), outbox, counters, events), events


def test_what_was_seen_and_why_is_kept_with_the_image(tmp_path: Path, counters: Counters) -> None:
    """The announcement carries detections, verdict, model, reasons and sighting."""
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    writer, _ = writer_of(tmp_path, outbox, counters)
    writer.start()
    assert writer.keep(kept(5))
    writer.stop()
    files = outbox.read(outbox.due(1)[0].sample_id)
    assert files is not None
    assert files[0] == jpeg(5)
    example = decode(HardExample, files[1], where="file")
    assert (example.model_id, example.release_version, example.decision) == ("a" * 64, 3, "unsure")
    assert [round(box.confidence, 3) for box in example.detections] == [0.4]
    assert example.sightings[0].part_id == "part-5"
    assert (example.image.width, example.image.size_bytes) == (64, len(jpeg(5)))
    assert counters.with_prefix("kept.") == {"uncertain": 1}


def test_a_frame_that_was_no_jpeg_is_encoded(tmp_path: Path, counters: Counters) -> None:
    """Camera frames are stored at the configured quality."""
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    writer, _ = writer_of(tmp_path, outbox, counters)
    writer.start()
    one = kept(5)
    writer.keep(replace(one, frame=replace(one.frame, jpeg=None)))
    writer.stop()
    files = outbox.read(outbox.due(1)[0].sample_id)
    assert files is not None
    image = cv2.imdecode(np.frombuffer(files[0], np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert np.abs(image.astype(int) - one.frame.image.astype(int)).mean() < 3


def test_a_part_is_marked_done_only_after_its_examples_are_durable(
    tmp_path: Path, counters: Counters
) -> None:
    """So a killed agent inspects again what it had not kept."""
    outbox = SlowOutbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    outbox.order, outbox.gate = [], threading.Event()
    writer, _ = writer_of(tmp_path, outbox, counters)
    writer.start()
    for seed in (1, 2):
        writer.keep(kept(seed))
        writer.part_done(PartDone(f"part-{seed}", (f"{seed}.jpg",), {"frames_inspected": 1}))
    assert outbox.order == []
    outbox.gate.set()
    writer.stop()
    assert outbox.order.index("part-1") < outbox.order.index("done 1.jpg")
    assert outbox.order.index("part-2") < outbox.order.index("done 2.jpg")
    assert outbox.progress(config_of(tmp_path).camera.source) == {"1.jpg", "2.jpg"}
    assert outbox.stored_counts()["frames_inspected"] == 2


def test_a_full_queue_counts_a_loss_and_never_waits(tmp_path: Path, counters: Counters) -> None:
    """With a disk that hangs, handing over takes no time, and the losses are counted and stored."""
    outbox = SlowOutbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    outbox.order, outbox.gate = [], threading.Event()
    writer, events = writer_of(tmp_path, outbox, counters, queue_frames=4)
    writer.start()
    began = time.monotonic()
    taken = sum(writer.keep(kept(seed)) for seed in range(20))
    assert time.monotonic() - began < 1.0
    assert taken in (4, 5)
    assert counters.value(LOST) == 20 - taken
    assert "outbox.queue-full" in events.problems()
    outbox.gate.set()
    writer.stop()
    assert outbox.waiting() == taken
    assert outbox.stored_counts()[LOST] == 20 - taken


def test_a_full_disk_is_counted_told_and_over_when_there_is_room(tmp_path: Path, counters: Counters) -> None:
    """The thread goes on, and the next example is kept."""
    free = [0]
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 1000, lambda folder: free[0]))
    writer, events = writer_of(tmp_path, outbox, counters)
    writer.start()
    writer.keep(kept(1))
    wait_until(lambda: counters.value(LOST) == 1, 5, "the loss to be counted")
    assert "1000 bytes left free" in events.problems()["outbox.full"]
    free[0] = 10**9
    writer.keep(kept(2))
    wait_until(lambda: outbox.waiting() == 1, 5, "the next example to be kept")
    writer.stop()
    assert events.problems() == {}
    assert outbox.stored_counts() == {LOST: 1, LOST_VALUE: 1000, "kept.uncertain": 1}


def test_a_frame_that_fits_no_announcement_is_counted_as_lost(tmp_path: Path, counters: Counters) -> None:
    """Whatever is wrong with one frame, it is a loss that is told, and over with the next example."""
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    writer, events = writer_of(tmp_path, outbox, counters)
    writer.start()
    odd = kept(1)
    writer.keep(replace(odd, frame=replace(odd.frame, image=np.zeros((4, 40_000, 3), np.uint8))))
    wait_until(lambda: counters.value(LOST) == 1, 5, "the loss to be counted")
    wait_until(lambda: "outbox.failed" in events.problems(), 5, "the problem to be told")
    writer.keep(kept(2))
    wait_until(lambda: outbox.waiting() == 1, 5, "the next example to be kept")
    writer.stop()
    assert events.problems() == {}
    assert outbox.stored_counts() == {LOST: 1, LOST_VALUE: 1000, "kept.uncertain": 1}


def test_an_idle_writer_commits_nothing(tmp_path: Path, counters: Counters) -> None:
    """Nothing new, nothing written; what a camera counts without progress is stored together, not each time."""
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    writer, _ = writer_of(tmp_path, outbox, counters)
    writer.start()
    writer.part_done(PartDone("part-0", ("0.jpg",), {"frames_inspected": 1}))
    wait_until(lambda: outbox.stored_counts() == {"frames_inspected": 1}, 5, "the progress")
    known = outbox._database.total_changes
    deadline = time.monotonic() + 1.0
    wait_until(lambda: time.monotonic() > deadline, 5, "an idle second")
    assert outbox._database.total_changes == known
    for number in range(1, 11):
        writer.part_done(PartDone(f"part-{number}", (), {"frames_inspected": 1}))
        counters.add("frames_dropped")
    deadline = time.monotonic() + 1.0
    wait_until(lambda: time.monotonic() > deadline, 5, "a second of a camera's counts")
    assert outbox._database.total_changes == known
    writer.stop()
    assert outbox.stored_counts() == {"frames_inspected": 11, "frames_dropped": 10}
