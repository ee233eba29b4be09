"""Keep the box on the release it should run: one thread that learns, installs, swaps, confirms, goes back.

The last stations of the data's way: signed channel -> slot on disk -> `ModelSlot` -> loop. The loop never
waits for any of it. The agent starts `run` in a thread, passes orders to `on_order`, and asks `state` for
its reports.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edge_agent import agent_version
from edge_agent.backoff import Backoff
from edge_agent.config import AgentConfig
from edge_agent.events import Events
from edge_agent.model_slot import ModelSlot
from edge_agent.ota.download import Downloader
from edge_agent.ota.errors import (
    Interrupted,
    MetadataExpired,
    MetadataRefused,
    OtaError,
    SelfTestFailed,
    SourceAway,
    TargetRefused,
)
from edge_agent.ota.installer import Installer
from edge_agent.ota.parts import OtaParts, OtaState, Standing, read_root
from edge_agent.ota.rules import Box, Choice, choose
from edge_agent.ota.serving import Serving
from edge_agent.ota.slots import Slots
from edge_agent.ota.tuf_client import TufClient
from fleet_contracts.base import utc_now
from fleet_contracts.releases import DeviceState, Release, RolloutOrder

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0
TRIAL_LOOK_S = 0.05
REST_LOOK_S = 0.25
PROBLEM = "ota"
LOOP_DIED = "loop.died"


class Updater:
    """Be the updater of one box.

    Args:
        config: of the agent.
        slot: where models are handed to the loop.
        events: where what happens is told; the standing problem is named "ota".
        parts: the outside world, None for the real one.

    Raises:
        ConfigError: the root file the box must trust is not readable.
    """

    def __init__(self, config: AgentConfig, slot: ModelSlot, events: Events,
                 parts: OtaParts | None = None) -> None:
        self._config = config
        self._slot = slot
        self._events = events
        parts = parts or OtaParts.real(config)
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._heard: RolloutOrder | None = None
        slots = Slots(config.data_dir / "releases", parts.disk)
        self._slots = slots
        self._client = TufClient(parts.server, read_root(config.releases.root_file), slots.folder / "tuf",
                                 parts.disk)
        downloader = Downloader(parts.server, parts.disk, config.releases.rate_limit_kib_s * 1024)
        box = Box(config.task_id, config.channel, agent_version())
        self._installer = Installer(self._client, downloader, slots, parts.self_test, parts.disk, box)
        self._serving = Serving(slots, slot, parts.load, config.releases)
        self._standing = Standing(order=slots.order())

    # What others call.

    def on_order(self, order: RolloutOrder) -> None:
        """Take an order from the broker; never blocks: the updater's own thread keeps and follows it."""
        if (order.task_id, order.device_id) != (self._config.task_id, self._config.device_id):
            self._events.note("ota.foreign_order", rollout=order.rollout_id)
            return
        with self._lock:
            known = self._heard or self._standing.order
            if known is not None and (order == known or order.issued_at < known.issued_at <= utc_now()):
                # Orders are sent again and again; one that is followed already is no news. One dated in the
                # future, by a wrong clock on either side, must not silence those that come after it.
                return
            self._heard = order
        self._wake.set()

    def wake(self) -> None:
        """Look at the channel now instead of at the next poll."""
        self._wake.set()

    def state(self) -> OtaState:
        """Say what serves and how the last update fared."""
        serving, standing = self._slot.current(), self._standing
        return OtaState(serving.release_version if serving else 0, serving.model_id if serving else None,
                        self._device_state(standing), standing.order.rollout_id if standing.order else "",
                        standing.problem, standing.expired)

    def run(self, stop: threading.Event) -> None:
        """Serve what is installed, then follow the channel until `stop`; the body of the updater's thread."""
        self._guarded(self.start)
        backoff = Backoff(FIRST_RETRY_S, min(MAX_RETRY_S, self._config.releases.poll_s))
        while not stop.is_set():
            if self._wake.is_set():
                # Somebody has news, so old failures are no reason to wait.
                backoff.reset()
                self._wake.clear()
            done = self._guarded(lambda: self.round(stop))
            if done:
                backoff.reset()
            self._rest(stop, self._config.releases.poll_s if done else backoff.next_s())
        self._guarded(self.end)

    # What the thread does, one call at a time.

    def start(self) -> bool:
        """Serve the installed release at once, without the network."""
        for problem in self._serving.start(self._installer.refuse_installed):
            self._events.note("ota.start_problem", problem=problem)
            self._stand(problem=problem)
        return True

    def end(self) -> bool:
        """Tell the disk that the agent ended in good order, unless its loop died of what it had to serve."""
        if not self._events.count(LOOP_DIED):
            self._serving.end()
        return True

    def round(self, stop: threading.Event) -> bool:
        """Bring the box one step on; False when there is reason to ask again soon.

        Steps: (1) keep a newly heard order, flushed; (2) learn from signatures what the channel allows;
        (3) choose among that; (4) what serves already needs nothing; (5) install it beside the old one;
        (6) point to it and offer it to the loop. It is confirmed, or taken back, by `watch_trial`.
        """
        self._keep_order()  # (1)
        if self._serving.release() is None and self._slot.current() is None:
            # What is installed may serve by now: an engine that was not ready at boot, a full disk.
            self._guarded(self.start)
        try:
            channel = self._client.refresh(self._config.task_id, self._config.channel)  # (2)
            self._stand(expired=False)
            choice = Choice(None, "the channel has no release yet")
            if channel is not None:
                choice = choose(channel.policy, self._standing.order, self._serving.version())  # (3)
            if channel is not None and choice.version not in (None, self._serving.version()):  # (4)
                self._stand(busy=True)
                running = self._serving.release()
                release = self._installer.install(channel, choice.version, running, stop)  # (5)
                self._swap(release)  # (6)
            self._stand(rolled_back=False, degraded=False, problem=choice.problem)
            return not choice.problem
        except Interrupted:
            return True
        except OtaError as error:
            return self._failed(error)
        except OSError as error:
            return self._failed(OtaError(expected="a disk that can be written", got=str(error),
                                         where=str(self._config.data_dir), now="Free some space on the box."))
        finally:
            self._stand(busy=False)

    def watch_trial(self) -> bool:
        """Look once at the release on trial; True when there is none (any more)."""
        failure = self._serving.look()
        if failure is None:
            return not self._serving.on_trial()
        self._stand(rolled_back=True, problem=str(failure.error))
        try:
            self._installer.refuse_installed(failure.version, failure.error)
            self._serving.take_back()
        except OtaError as error:
            self._stand(problem=f"{failure.error}; and going back failed: {error}")
        except OSError as error:
            # The loop has gone back in memory; the disk must follow, so the failure is looked at again.
            self._stand(problem=f"{failure.error}; and it cannot be noted: {error}")
            return False
        self._events.note("ota.rolled_back", version=failure.version)
        return True

    def _rest(self, stop: threading.Event, seconds: float) -> None:
        """Wait for news, with an eye on the trial."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and not self._wake.is_set() and time.monotonic() < deadline:
            if self._serving.on_trial():
                self._guarded(self.watch_trial)
                stop.wait(TRIAL_LOOK_S)
            else:
                self._wake.wait(min(REST_LOOK_S, seconds))

    def _swap(self, release: Release) -> None:
        try:
            self._serving.swap(release)
        except SelfTestFailed as error:
            if not error.final and self._slots.has_proven(release.version):
                # It served here before, so the engine is at fault, and that passes.
                raise
            self._installer.refuse_installed(release.version, error)
            raise
        self._events.note("ota.offered", version=release.version, model=release.model_id[:12])

    def _failed(self, error: OtaError) -> bool:
        expired = self._standing.expired or isinstance(error, MetadataExpired)
        lied_to = isinstance(error, (MetadataRefused, TargetRefused))
        self._stand(expired=expired, degraded=expired or lied_to, problem=str(error),
                    rolled_back=self._standing.rolled_back or error.final)
        kind = "away" if isinstance(error, SourceAway) else type(error).__name__
        self._events.note("ota.failed", kind=kind)
        # A release that is bad for good needs no haste; everything else is asked again soon.
        return error.final

    def _keep_order(self) -> None:
        with self._lock:
            heard, self._heard = self._heard, None
        if heard is None:
            return
        # A rollback belongs to the order it happened under.
        self._stand(order=heard, rolled_back=False)
        self._slots.keep_order(heard)
        self._events.note("ota.ordered", rollout=heard.rollout_id, version=heard.release_version)

    def _device_state(self, standing: Standing) -> DeviceState:
        if self._slot.current() is None:
            return "rolled_back" if standing.rolled_back else "starting"
        if standing.busy or self._serving.on_trial():
            return "updating"
        if standing.rolled_back:
            return "rolled_back"
        return "degraded" if standing.degraded else "serving"

    def _stand(self, **changes: Any) -> None:
        self._standing = replace(self._standing, **changes)
        if "problem" in changes and self._standing.problem:
            self._events.set_problem(PROBLEM, self._standing.problem)
        elif "problem" in changes:
            self._events.clear_problem(PROBLEM)

    def _guarded(self, step: Callable[[], bool]) -> bool:
        try:
            return step()
        except Exception as error:  # noqa: BLE001 - the outer edge of this thread: counted, and tried again
            self._events.note("ota.crashed", error=type(error).__name__)
            self._stand(problem=f"the updater failed: {type(error).__name__}: {error}")
            return False
