"""Keep the services running: start them in the order of their needs, ask them, start again what ended.

One thread, no queue: every tick looks at each service's process, asks `rules` what to do, and does it.
When the supervisor ends well it stops its services in reverse order; when it is killed, the kernel
ends them (`processes.start_bound`).
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from flows.up import processes, rules
from flows.up.services import Service
from flows.up.state import ServiceState, UpState, read_state, write_state

log = logging.getLogger("whetstone.up")

TICK = 0.1  # seconds
LOG_CHECK_EVERY = 5.0
STOP_SECONDS = 10.0
_NEEDS_TERM = frozenset({"broker"})
"""Services that write something down when asked to end; the others lose nothing by a kill."""


@dataclass(frozen=True, slots=True)
class Place:
    """Say where the services run: their folder, environment, and what to tell others about them."""

    folder: Path
    env: Mapping[str, str]
    ports: Mapping[str, int]
    urls: Mapping[str, str]


class Supervisor:
    """Run services until told to stop; one instance per folder, guarded by `state.hold`."""

    def __init__(self, place: Place, services: tuple[Service, ...], *, seed: int | None = None) -> None:
        self._place = place
        self._services = services
        self._watches = {service.name: rules.Watch() for service in services}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False
        self._stopped = False
        self._next_log_check = 0.0
        self._draw = random.Random(seed)  # noqa: S311 - jitter is no secret
        self._written: UpState | None = None

    @property
    def is_ready(self) -> bool:
        """Tell whether every service serves."""
        return all(rules.is_up(watch) for watch in self._watches.values())

    def stop(self) -> None:
        """Ask `run` to end its services and return; may be called from a signal handler."""
        self._stopping = True

    def run(self, changed: Callable[[UpState], None] = lambda _: None) -> None:
        """Keep the services running until `stop`; `changed` is told of every change of state."""
        self._end_leftovers()
        try:
            while not self._stopping:
                for service in self._services:
                    self._tend(service, time.monotonic())
                self._keep_logs_small(time.monotonic())
                self._tell(changed)
                time.sleep(TICK)
        finally:
            self._end_all()
            self._stopped = True
            self._tell(changed)

    def _tend(self, service: Service, now: float) -> None:
        watch = self._watches[service.name]
        child = self._children.get(service.name)
        if child is not None and child.poll() is not None:
            self._note_end(service, child.returncode, now)
            return
        needs_met = all(rules.is_up(self._watches[name]) for name in service.needs)
        step = rules.next_step(watch, now, needs_met=needs_met, start_seconds=service.start_seconds)
        if step == "start":
            self._start(service, now)
        elif step == "probe" and not service.once:
            holds = service.probe()
            self._watches[service.name] = rules.probed(watch, time.monotonic(), holds=holds)
        elif step == "kill" and child is not None:
            log.warning("up.killed service=%s state=%s deaf=%d", service.name, watch.state, watch.deaf)
            child.kill()

    def _start(self, service: Service, now: float) -> None:
        try:
            self._children[service.name] = processes.start_bound(
                service.command,
                env={**self._place.env, **service.env},
                log=self._log(service),
                folder=self._place.folder,
                death_signal=signal.SIGTERM if service.name in _NEEDS_TERM else signal.SIGKILL,
            )
        except OSError as error:
            log.error("up.not_started service=%s error=%s", service.name, error)
            self._note_end(service, -1, now)
            return
        self._watches[service.name] = rules.started(self._watches[service.name], now)
        log.info("up.started service=%s pid=%d", service.name, self._children[service.name].pid)

    def _note_end(self, service: Service, code: int, now: float) -> None:
        self._children.pop(service.name, None)
        watch = rules.ended(
            self._watches[service.name], now, well=code == 0, once=service.once, jitter=self._draw.random()
        )
        self._watches[service.name] = watch
        if watch.state != "done":
            see, rest = self._log(service), watch.rest_until - now
            log.warning("up.ended service=%s code=%d rest=%.1f see=%s", service.name, code, rest, see)

    def _keep_logs_small(self, now: float) -> None:
        if now < self._next_log_check:
            return
        self._next_log_check = now + LOG_CHECK_EVERY
        for service in self._services:
            processes.rotate(self._log(service))

    def _log(self, service: Service) -> Path:
        return self._place.folder / "logs" / f"{service.name}.log"

    def _end_leftovers(self) -> None:
        """End children of an earlier supervisor that the kernel did not end with it."""
        before = read_state(self._place.folder)
        for name, service in before.services.items() if before else ():
            left = processes.ProcessName(service.pid, service.start_ticks)
            if service.pid and processes.end(left):
                log.warning("up.leftover_ended service=%s pid=%d", name, service.pid)
                _wait_for(lambda left=left: not processes.is_alive(left), STOP_SECONDS)  # type: ignore[misc]

    def _end_all(self) -> None:
        for service in reversed(self._services):
            child = self._children.pop(service.name, None)
            if child is None:
                continue
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            self._watches[service.name] = replace(self._watches[service.name], state="waiting")

    def _tell(self, changed: Callable[[UpState], None]) -> None:
        state = self._state()
        if state != self._written:
            write_state(self._place.folder, state)
            self._written = state
            changed(state)

    def _state(self) -> UpState:
        own = processes.name_of(os.getpid())
        return UpState(
            pid=own.pid if own else 0,
            start_ticks=own.start_ticks if own else 0,
            ready=self.is_ready and not self._stopped,
            ports=dict(self._place.ports),
            urls=dict(self._place.urls),
            services={service.name: self._service_state(service) for service in self._services},
        )

    def _service_state(self, service: Service) -> ServiceState:
        watch, child = self._watches[service.name], self._children.get(service.name)
        name = processes.name_of(child.pid) if child else None
        return ServiceState(
            state=watch.state,
            restarts=watch.restarts,
            pid=name.pid if name else 0,
            start_ticks=name.start_ticks if name else 0,
        )


@contextmanager
def stopping_on_signals(supervisor: Supervisor) -> Iterator[None]:
    """End the supervisor well when somebody interrupts or terminates this process."""
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(kind, lambda *_: supervisor.stop()) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _wait_for(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
