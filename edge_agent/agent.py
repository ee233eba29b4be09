"""Wire the agent's parts together, start them in order and stop them in order.

    start: outbox -> writer -> link -> uploader, reporter, updater -> sorter -> capture -> loop
    stop:  loop -> capture -> sorter -> writer (all handed over is durable) -> last report -> the rest

Only the loop ends the agent by itself (a source that has ended); a thread that failed is counted and goes on.
"""

from __future__ import annotations

import logging
import threading
import time

from edge_agent.capture_desk import CaptureDesk, DeskLinks
from edge_agent.care.build import Care, CareParts
from edge_agent.care.heartbeat import Heartbeat
from edge_agent.care.watch import MachineWatch
from edge_agent.config import AgentConfig
from edge_agent.counters import Counters
from edge_agent.data_folder import STATUS_FILE, forget_old_names, lock_folder
from edge_agent.events import Events
from edge_agent.inbox import Inbox, Recipients
from edge_agent.link.base import LinkHandlers, LinkOptions
from edge_agent.loop import InspectionLoop, LoopOptions, LoopParts
from edge_agent.mining.verdict import counts_of, miner_of
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.writer import OutboxWriter, PartDone
from edge_agent.outputs.sorter import LoopSigns, build_sorter
from edge_agent.prefetch import should_overlap
from edge_agent.priority import in_background
from edge_agent.privacy.masks import build_masks
from edge_agent.reports import Reporter, ReportSources, will_of
from edge_agent.sources.base import Frame
from edge_agent.sources.capture import Capture, CaptureHooks
from edge_agent.sources.choose import (
    capture_options,
    is_never_silent,
    part_idle_s,
)
from edge_agent.timings import StageTimes
from edge_agent.upload.uploader import Uploader
from edge_agent.world import World
from fleet_contracts import topics
from fleet_contracts.base import encode
from fleet_contracts.messages import OrderRequest

logger = logging.getLogger("whetstone.edge")


class Agent:
    """Be the daemon of one task on one box.

    Raises:
        ConfigError: another agent uses the same `data_dir`.
        OutboxError: the outbox cannot be opened.
    """

    def __init__(self, config: AgentConfig, world: World) -> None:
        self.config = config
        self._lock_file = lock_folder(config.data_dir)
        self.events = Events()
        self.outbox = Outbox(config.data_dir / "outbox", world.guard(config))
        self.counters = Counters(self.outbox.stored_counts())
        self.slot = ModelSlot()
        self.heart, self.times = Heartbeat(), StageTimes()
        self.watch = MachineWatch(config, self.events)
        self.miner = miner_of(config.mining, self.counters, self.events)
        self.writer = OutboxWriter(
            config,
            self.outbox,
            self.counters,
            self.events,
            build_masks(config.privacy, config.camera.name, self.slot),
        )
        self._stop = threading.Event()
        self._link = world.link(config, _link_options(config), self.events)
        self._putter = world.putter(config)
        notes = (self.counters, self.events)
        self.uploader = Uploader(config, self.outbox, self._link, self._putter, notes)
        self.updater = world.updater(config, self.slot, self.events)
        links = DeskLinks(self._link.publish, self.writer.keep)
        self.captures = CaptureDesk(config, self.miner, links, self.events)
        self.capture = self._new_capture(world)
        silent_s = self.capture.idle_s if is_never_silent(config.camera) else None
        signs = LoopSigns(self.heart, lambda: self.slot.current() is not None, silent_s)
        self.sorter = build_sorter(config, self.counters, self.events, signs)
        self.loop = self._new_loop()
        report_sources = self._report_sources()
        self.reporter = Reporter(config, self._link, report_sources, config.data_dir / STATUS_FILE)
        self.care = Care(self._care_parts(report_sources))
        work = (self.uploader.run, self.reporter.run, self.updater.run, self.captures.run)
        self._threads = [
            threading.Thread(target=in_background(run), args=(self._stop,), name=name, daemon=True)
            for run, name in zip(work, ("uploader", "reporter", "updater", "captures"), strict=True)
        ]
        self._loop_ended = threading.Event()
        self._loop_thread = threading.Thread(target=self._run_loop, name="loop", daemon=True)

    def start(self) -> None:
        """Start every part."""
        if self.outbox.recovered:
            self.events.note("outbox.recovered", examples=self.outbox.recovered)
        if self.outbox.in_memory:
            self.events.set_problem(
                "outbox.in-memory", "the disk was full at the start: free some space and restart the agent"
            )
        self.writer.start()
        self._link.start(LinkHandlers(self._new_inbox().on_message, self._on_connected))
        for thread in self._threads:
            thread.start()
        self.sorter.start()
        self.capture.start()
        self._loop_thread.start()
        self.care.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the loop to end by itself; return whether it did."""
        return self._loop_ended.wait(seconds)

    def stop(self) -> None:
        """Stop every part in order, within about four seconds; what was handed over is durable.

        Every wait is bounded, for a hung driver, disk or network must not hold up the end.
        """
        self.care.stop()
        # (1) No new frames: the loop finishes the one it is at, and its part.
        self._stop.set()
        if self._loop_thread.ident is not None:
            self._loop_thread.join(1.0)
        self.capture.stop(0.2)
        # Before the disk: the line must learn at once that nobody inspects any more.
        self.sorter.stop(0.4)
        # (2) Everything handed over reaches the disk.
        self.writer.stop(1.5)
        # (3) A last word, then the link in good order.
        deadline = time.monotonic() + 0.5
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        if self._link.is_connected():
            self.reporter.report(offline=True)
        self._link.stop()
        # (4) Nobody uses these now, or the process ends anyway.
        self._putter.close()
        self.outbox.close()
        if not self._loop_thread.is_alive():
            self.slot.close()
        self._lock_file.close()

    def _run_loop(self) -> None:
        try:
            self.loop.run(self._stop)
        except Exception:  # the process ends and its supervisor starts it again
            logger.exception("loop.died")
            self.events.note("loop.died")
            self.failed = True
        finally:
            self._loop_ended.set()

    failed = False
    """Whether the loop ended by an error of our own."""

    def _on_connected(self) -> None:
        """Ask for what may have been missed; the report says that the box is online."""
        request = OrderRequest(
            task_id=self.config.task_id, device_id=self.config.device_id, channel=self.config.channel
        )
        self._link.publish(
            topics.up(self.config.task_id, self.config.device_id, "order-request"), encode(request)
        )
        self.reporter.wake()
        self.uploader.on_connected()

    def _new_inbox(self) -> Inbox:
        recipients = Recipients(
            grant=self.uploader.on_grant,
            receipt=self.uploader.on_receipt,
            order=self.updater.on_order,
            capture=self.captures.take,
            refused=self.captures.refuse,
        )
        return Inbox(self.config, recipients, self.events)

    def _new_capture(self, world: World) -> Capture:
        camera = self.config.camera
        forget_old_names(self.outbox, camera)
        seen = self.outbox.progress(camera.source)
        reader = world.reader(self.config, seen, self.counters, self.events)
        options = capture_options(camera)
        hooks = CaptureHooks(on_skip=self._skip, has_room=self.writer.has_room)
        return Capture(reader, options, self.counters, self.events, hooks)

    def _skip(self, frame: Frame) -> None:
        """Mark a frame that a newer one replaced, so that a restart does not come back to it."""
        if frame.token:
            self.writer.part_done(PartDone(frame.part_id, (frame.token,)))

    def _new_loop(self) -> InspectionLoop:
        parts = LoopParts(
            self.capture,
            self.slot,
            self.miner,
            self.writer,
            self.counters,
            self.events,
            self.heart,
            self.times,
        )
        camera, inference = self.config.camera, self.config.inference
        overlap = should_overlap(inference.overlap, inference.threads)
        options = LoopOptions(
            camera=camera.name,
            idle_exit_s=camera.idle_exit_s,
            part_idle_s=part_idle_s(camera),
            ends_are_told=camera.trigger is not None,
            overlap=overlap,
            on_decision=self.sorter.on_decision,
        )
        return InspectionLoop(parts, options)

    def _report_sources(self) -> ReportSources:
        is_camera = is_never_silent(self.config.camera)
        return ReportSources(
            self.outbox,
            self.counters,
            self.events,
            self.slot,
            self.updater.state,
            self.capture.idle_s if is_camera else None,
            campaigns=self.miner.campaigns.running,
            readings=self.watch.readings,
            frame_ms=lambda: self.times.quantiles("total", (0.5, 0.99)) if self.times.count else (),
            late_ms=lambda: max((one.late_p99_ms for one in self.sorter.status()), default=None),
        )

    def _care_parts(self, report: ReportSources) -> CareParts:
        return CareParts(
            self.config,
            self.heart,
            self.watch,
            report,
            self._link.is_connected,
            times=self.times,
            outputs=self.sorter.status,
            gauges={
                "whetstone_queue_frames": ("Frames between loop and outbox.", self.writer.queued),
            },
            counts=counts_of(self.miner),
        )


def _link_options(config: AgentConfig) -> LinkOptions:
    return LinkOptions(
        client_id=f"whetstone-{config.task_id}-{config.device_id}",
        filters=(topics.all_down(config.task_id, config.device_id),),
        will=will_of(config),
    )
