"""Wire the agent's parts together, start them in order and stop them in order.

    start: outbox -> writer -> link -> uploader, reporter, updater -> capture -> loop
    stop:  loop -> capture -> writer (everything handed over becomes durable) -> last report -> the rest

Only the loop ends the agent by itself (a source that has ended); a thread that failed is counted and goes on.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from edge_agent.config import AgentConfig, CameraConfig
from edge_agent.counters import Counters
from edge_agent.errors import ConfigError
from edge_agent.events import Events
from edge_agent.inbox import CaptureDesk, Inbox, Recipients
from edge_agent.link.base import Link, LinkHandlers, LinkOptions
from edge_agent.loop import InspectionLoop, LoopOptions, LoopParts
from edge_agent.mining.verdict import miner_of
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox.disk_guard import DiskGuard
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.writer import OutboxWriter, PartDone
from edge_agent.reports import Reporter, ReportSources, UpdaterState, will_of
from edge_agent.sources.base import Frame, FrameReader
from edge_agent.sources.capture import Capture, CaptureHooks, CaptureOptions
from edge_agent.sources.choose import choose_reader
from edge_agent.upload.base import Putter
from edge_agent.upload.uploader import Uploader
from fleet_contracts import topics
from fleet_contracts.base import encode
from fleet_contracts.messages import OrderRequest
from fleet_contracts.releases import RolloutOrder

logger = logging.getLogger("whetstone.edge")
STATUS_FILE = "status.json"
LOCK_FILE = "agent.lock"


class UpdaterPort(Protocol):
    """Be what puts models into the slot; `edge_agent.ota.updater.Updater` is the real one."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; the body of the updater's thread."""

    def on_order(self, order: RolloutOrder) -> None:
        """Take an order in; it is a hint, checked against the signed channel."""

    def state(self) -> UpdaterState:
        """Say how it is doing."""

    def wake(self) -> None:
        """Look for a release now."""


@dataclass(frozen=True, slots=True)
class World:
    """Hold how the agent reaches the outside; tests give in-memory twins."""

    link: Callable[[AgentConfig, LinkOptions, Events], Link]
    putter: Callable[[AgentConfig], Putter]
    updater: Callable[[AgentConfig, ModelSlot, Events], UpdaterPort]
    reader: Callable[[AgentConfig, set[str], Counters, Events], FrameReader]
    guard: Callable[[AgentConfig], DiskGuard]


def real_world() -> World:
    """Return the network, disk and camera; loads their packages only now."""
    from edge_agent.link.mqtt import MqttLink
    from edge_agent.ota.updater import Updater
    from edge_agent.upload.http import HttpPutter

    return World(
        link=lambda config, options, events: MqttLink(config.broker, options, events),
        putter=lambda _: HttpPutter(),
        updater=Updater,
        reader=folder_or_camera,
        guard=lambda config: DiskGuard.from_config(config.outbox),
    )


def folder_or_camera(config: AgentConfig, seen: set[str], counters: Counters, events: Events) -> FrameReader:
    """Return the reader of the configured source."""
    return choose_reader(config.camera, config.data_dir / "quarantine", seen, counters, events)


class Agent:
    """Be the daemon of one task on one box.

    Raises:
        ConfigError: another agent uses the same `data_dir`.
        OutboxError: the outbox cannot be opened.
    """

    def __init__(self, config: AgentConfig, world: World) -> None:
        self.config = config
        self._lock_file = _lock(config.data_dir)
        self.events = Events()
        self.outbox = Outbox(config.data_dir / "outbox", world.guard(config))
        self.counters = Counters(self.outbox.stored_counts())
        self.slot = ModelSlot()
        self.miner = miner_of(config.mining)
        self.writer = OutboxWriter(config, self.outbox, self.counters, self.events)
        self._stop = threading.Event()
        self._link = world.link(config, _link_options(config), self.events)
        self._putter = world.putter(config)
        notes = (self.counters, self.events)
        self.uploader = Uploader(config, self.outbox, self._link, self._putter, notes)
        self.updater = world.updater(config, self.slot, self.events)
        self.capture = self._new_capture(world)
        self.loop = self._new_loop()
        self.reporter = Reporter(config, self._link, self._report_sources(), config.data_dir / STATUS_FILE)
        self._threads = [
            threading.Thread(target=self.uploader.run, args=(self._stop,), name="uploader", daemon=True),
            threading.Thread(target=self.reporter.run, args=(self._stop,), name="reporter", daemon=True),
            threading.Thread(target=self.updater.run, args=(self._stop,), name="updater", daemon=True),
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
        self.capture.start()
        self._loop_thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the loop to end by itself; return whether it did."""
        return self._loop_ended.wait(seconds)

    def stop(self) -> None:
        """Stop every part in order, within about four seconds; what was handed over is durable.

        Every wait is bounded, for a hung driver, disk or network must not hold up the end.
        """
        # (1) No new frames: the loop finishes the one it is at, and its part.
        self._stop.set()
        if self._loop_thread.ident is not None:
            self._loop_thread.join(1.0)
        self.capture.stop(0.2)
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
            capture=CaptureDesk(self.miner, self.events).take,
        )
        return Inbox(self.config, recipients, self.events)

    def _new_capture(self, world: World) -> Capture:
        camera = self.config.camera
        _forget_old_names(self.outbox, camera)
        seen = self.outbox.progress(camera.source)
        reader = world.reader(self.config, seen, self.counters, self.events)
        options = CaptureOptions(mode=camera.mode, fps_limit=camera.fps_limit)
        hooks = CaptureHooks(on_skip=self._skip, has_room=self.writer.has_room)
        return Capture(reader, options, self.counters, self.events, hooks)

    def _skip(self, frame: Frame) -> None:
        """Mark a frame that a newer one replaced, so that a restart does not come back to it."""
        if frame.token:
            self.writer.part_done(PartDone(frame.part_id, (frame.token,)))

    def _new_loop(self) -> InspectionLoop:
        parts = LoopParts(self.capture, self.slot, self.miner, self.writer, self.counters, self.events)
        camera = self.config.camera
        return InspectionLoop(parts, LoopOptions(camera=camera.name, idle_exit_s=camera.idle_exit_s))

    def _report_sources(self) -> ReportSources:
        is_camera = not self.config.camera.source.startswith(("folder:", "video:"))
        return ReportSources(
            self.outbox,
            self.counters,
            self.events,
            self.slot,
            self.updater.state,
            self.capture.idle_s if is_camera else None,
        )


def _forget_old_names(outbox: Outbox, camera: CameraConfig) -> None:
    """Let progress go for files that are gone, so that a folder which is emptied does not fill the outbox.

    An empty or missing folder may be a share that is not mounted yet: then nothing is forgotten.
    """
    kind, _, path = camera.source.partition(":")
    if kind != "folder":
        return
    try:
        there = {entry.name for entry in Path(path).iterdir()}
    except OSError:
        return
    try:
        gone = outbox.progress(camera.source) - there
        if there and gone:
            outbox.forget_progress(camera.source, gone)
    except sqlite3.Error as error:
        # The database is only larger than it need be; the next start forgets them.
        logger.warning("outbox.not-forgotten %s", error)


def _link_options(config: AgentConfig) -> LinkOptions:
    return LinkOptions(
        client_id=f"whetstone-{config.task_id}-{config.device_id}",
        filters=(topics.all_down(config.task_id, config.device_id),),
        will=will_of(config),
    )


def _lock(data_dir: Path) -> IO[str]:
    """Keep the data folder to this process; the lock goes with the process, however it ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            expected="a data_dir that can be written",
            got=str(error.strerror),
            where=str(data_dir),
            now="Correct data_dir or its owner.",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError(
            expected="a data_dir of its own",
            got="one that a running agent uses",
            where=str(data_dir),
            now="Stop the other agent, or give this one another data_dir.",
        ) from error
    # For people only: on a full disk the lock holds without its number.
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    return file
