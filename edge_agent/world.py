"""Say how the agent reaches the outside: broker, store, releases, camera, disk; tests give twins."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_agent.config import AgentConfig
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.link.base import Link, LinkOptions
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox.disk_guard import DiskGuard
from edge_agent.reports import UpdaterState
from edge_agent.sources.base import FrameReader
from edge_agent.sources.choose import SourceFolders, buffers_for, choose_reader
from edge_agent.upload.base import Putter
from fleet_contracts.releases import RolloutOrder


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
    from edge_agent.upload.rate import TokenBucket

    return World(
        link=lambda config, options, events: MqttLink(config.broker, options, events),
        putter=lambda config: HttpPutter(
            config.upload.ca_file, TokenBucket(config.upload.rate_limit_kib_s * 1024)
        ),
        updater=Updater,
        reader=folder_or_camera,
        guard=lambda config: DiskGuard.from_config(config.outbox, config.data_dir),
    )


def folder_or_camera(config: AgentConfig, seen: set[str], counters: Counters, events: Events) -> FrameReader:
    """Return the reader of the configured source."""
    buffers = buffers_for(config.camera, config.outbox.queue_frames, config.mining.remember_frames)
    quarantine = config.data_dir / "quarantine" if config.privacy.keep_unreadable else None
    folders = SourceFolders(quarantine, buffers)
    return choose_reader(config.camera, folders, seen, counters, events)
