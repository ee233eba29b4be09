"""Be our loop, in a child: `python -m bench.edge_parts.protocol line SPEC`.

Everything a box runs for its frames is here and real: source thread, loop, decision rules, mining rules
with their default budget, writer thread and outbox on a disk. Frames lie in memory as a camera's driver
would leave them; each is a part of its own, so that a frame's time ends with a decided part.

A frame's time is that from one decision to the next while frames are always at hand.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.edge_parts.protocol import process_facts, serve, spec_of
from detection.session import Detector, DetectorOptions
from edge_agent import counters as names
from edge_agent.config import AgentConfig, parse_config
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.loop import InspectionLoop, LoopOptions, LoopParts
from edge_agent.mining.verdict import miner_of
from edge_agent.model_slot import ModelSlot, ServingModel
from edge_agent.outbox import DiskGuard, Outbox, OutboxWriter
from edge_agent.parts import FinishedPart
from edge_agent.prefetch import should_overlap
from edge_agent.sources import Capture, CaptureHooks, CaptureOptions, Frame
from edge_agent.timings import STAGES, StageTimes
from fleet_contracts.base import utc_now
from fleet_contracts.samples import ClassRule, DecisionRules

DECIDE_S = 120.0
"""Longest wait for the decisions of a block, beyond what they may take."""
SLOWEST_FRAME_S = 0.5
SETTLE_S = 10.0
LOOK_S = 0.03


class Belt:
    """Bring as many frames as were ordered, each a part of its own; the reader of the source."""

    def __init__(self, images: list[Any]) -> None:
        self._images = images
        self._ordered = 0
        self.brought = 0
        """Frames read so far."""
        self._changed = threading.Condition()
        self._over = False

    def order(self, count: int) -> None:
        """Let so many more frames come."""
        with self._changed:
            self._ordered += count
            self._changed.notify_all()

    def end(self) -> None:
        """Let no frame come any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame when one was ordered."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.brought < self._ordered or self._over, timeout=wait_s):
                return None
            if self._over:
                return None
            number = self.brought
            self.brought += 1
        image = self._images[number % len(self._images)]
        return Frame(image, utc_now(), f"part-{number}", last_in_part=True)

    def is_ended(self) -> bool:
        """Tell whether the belt was ended."""
        return self._over

    def close(self) -> None:
        """Nothing is held."""


class Line:
    """Run the loop on ordered frames and note when each part was decided."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._folder = Path(tempfile.mkdtemp(prefix="bench-line-", dir=spec["work"]))
        config = _config(self._folder)
        self._counters, self._events = Counters(), Events()
        self._outbox = Outbox(self._folder / "outbox", DiskGuard.from_config(config.outbox, config.data_dir))
        self._writer = OutboxWriter(config, self._outbox, self._counters, self._events)
        self._images = list(np.load(spec["frames"]))
        self._belt = Belt(self._images)
        self._capture = Capture(
            self._belt, CaptureOptions(mode="every"), self._counters, self._events,
            CaptureHooks(has_room=self._writer.has_room),
        )  # fmt: skip
        self._decided_at: list[float] = []
        self._verdicts: list[str] = []
        self._awaited = -1
        self._done = threading.Event()
        self._rules = _rules(spec["names"])
        self._slot = ModelSlot()
        self._versions = 0
        self._options = DetectorOptions(threads=spec["threads"], min_confidence=spec["conf"], iou=spec["iou"])
        self._offer()
        self._times = StageTimes()
        self._miner = miner_of(config.mining, self._counters, self._events)
        parts = LoopParts(self._capture, self._slot, self._miner, self._writer, self._counters, self._events,
                          times=self._times)  # fmt: skip
        overlap = should_overlap(config.inference.overlap, spec["threads"])
        loop = InspectionLoop(parts, LoopOptions("cam0", overlap=overlap, on_decision=self._note))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=loop.run, args=(self._stop,), name="loop", daemon=True)
        self._writer.start()
        self._capture.start()
        self._thread.start()
        self._expected = [self._next_verdict() for _ in self._images]

    # What the parent asks.

    def look(self) -> dict[str, Any]:
        """Return what is found in each frame: rows of x1, y1, x2, y2, confidence, class."""
        detector = Detector.load(Path(self._spec["onnx"]), options=self._options)
        found = []
        for image in self._images:
            seen = detector.infer(image).detections
            columns = zip(seen.xyxy.tolist(), seen.confidence.tolist(), seen.class_id.tolist(), strict=True)
            found.append([[*xyxy, confidence, class_id] for xyxy, confidence, class_id in columns])
        detector.close()
        return {"found": found, "verdicts": self._expected}

    def run(self, frames: int, warm: int) -> dict[str, Any]:
        """Measure a block; every frame must have been decided on, none dropped, as it was at the start.

        Raises:
            RuntimeError: a frame was lost, decided otherwise, or not decided in time.
        """
        kept, first = self._kept(), self._belt.brought
        # One more than counted, so that the last counted frame has a successor being fetched like all others.
        self._decide(warm + frames + 1)
        self._check(first)
        times = np.diff(np.asarray(self._decided_at[warm - 1 : warm + frames])) * 1e3
        self._settle()
        return {"ms": times.round(4).tolist(), "kept": self._kept() - kept, "stages": self._stages()}

    def swap(self, frames: int) -> dict[str, Any]:
        """Load the model again, let the loop take it between two frames, inspect, and let the old one go."""
        before = self._slot.current()
        self._offer()
        self.run(frames, 1)
        if self._slot.current() is before:
            raise RuntimeError("expected another model to serve after the swap, got the same")
        self._slot.confirm()
        report = self._slot.swap_report()
        return {"gap_ms": report.gap_ms if report else 0.0, **process_facts()}

    def facts(self) -> dict[str, Any]:
        """Say what the process uses and what the loop counted."""
        count = self._counters.value
        told = {
            "dropped": count(names.DROPPED),
            "inspected": count(names.INSPECTED),
            "lost": count(names.LOST),
        }
        mined = {"kept": self._kept(), "mined": dict(self._miner.outcomes)}
        return {**process_facts(), **told, **mined, "problems": self._events.problems()}

    def end(self) -> dict[str, Any]:
        """Stop every thread and remove the folder."""
        self._stop.set()
        self._belt.end()
        self._thread.join(5)
        self._capture.stop()
        self._writer.stop()
        self._outbox.close()
        self._slot.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return {}

    def _note(self, part: FinishedPart) -> None:
        """Called on the loop's thread for every decided part."""
        self._decided_at.append(time.perf_counter())
        self._verdicts.append(part.decision.verdict)
        if len(self._verdicts) == self._awaited:
            self._done.set()

    def _decide(self, count: int) -> None:
        """Let so many frames be decided on; what was noted of earlier ones is let go."""
        self._decided_at.clear()
        self._verdicts.clear()
        self._awaited = count
        self._done.clear()
        self._belt.order(count)
        if not self._done.wait(DECIDE_S + count * SLOWEST_FRAME_S):
            raise RuntimeError(f"expected {count} decisions, got {len(self._verdicts)}; "
                               f"problems {self._events.problems()}")  # fmt: skip

    def _check(self, first: int) -> None:
        dropped, got = self._counters.value(names.DROPPED), self._verdicts
        wanted = [self._expected[number % len(self._images)] for number in range(first, first + len(got))]
        if dropped or got != wanted:
            different = sum(one != other for one, other in zip(got, wanted, strict=True))
            raise RuntimeError(f"expected every frame decided as at the start, got {different} others and "
                               f"{dropped} dropped; problems {self._events.problems()}")  # fmt: skip

    def _settle(self) -> None:
        """Let the writer encode what was kept, so that its work is not laid to the next contender's block."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            worked = time.process_time()
            time.sleep(LOOK_S)
            if time.process_time() - worked < LOOK_S / 10:
                return

    def _offer(self) -> None:
        detector = Detector.load(Path(self._spec["onnx"]), options=self._options)
        detector.warm_up()
        self._versions += 1
        self._slot.offer(ServingModel(detector, self._versions, self._rules, detector.model_id))

    def _next_verdict(self) -> str:
        """Let the loop decide once on the next frame, to compare every later decision with."""
        self._decide(1)
        return self._verdicts[0]

    def _kept(self) -> int:
        return sum(self._counters.with_prefix(names.KEPT).values())

    def _stages(self) -> dict[str, list[float]]:
        """Return the median and the 99th percentile of every stage in ms, over the last thousand frames."""
        return {stage: [round(ms, 4) for ms in self._times.quantiles(stage, (0.5, 0.99))] for stage in STAGES}


def _config(folder: Path) -> AgentConfig:
    """Return a box's configuration with nothing but defaults where the loop is concerned."""
    data = {
        "task_id": "bench", "device_id": "bench", "data_dir": "data",
        "broker": {"host": "127.0.0.1"},
        "releases": {"url": "http://127.0.0.1:9/", "root_file": "root.json"},
        "camera": {"source": "folder:frames"},
    }  # fmt: skip
    return parse_config(data, where=folder / "agent.toml")


def _rules(class_names: list[str]) -> DecisionRules:
    return DecisionRules(
        classes=tuple(ClassRule(name=name, reject_at=0.6, unsure_at=0.3) for name in class_names)
    )


def main() -> int:
    """Serve the parent."""
    spec = spec_of(sys.argv)
    if spec["kind"] == "beside":
        from bench.edge_parts.other_core import LineBeside

        serve(lambda: LineBeside(spec))
    else:
        serve(lambda: Line(spec))
    return 0


if __name__ == "__main__":
    sys.exit(main())
