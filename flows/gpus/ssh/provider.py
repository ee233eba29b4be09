"""Lend hosts that are reached by SSH: those of any seller, or a machine of one's own in another room.

A machine is a session of processes (or a container) on a host, kept in a folder named by its tag. It needs no
connection: it outlives every process of ours and ends by its own guard at the lease's deadline. The same
lease always names the same folder, so asking twice is once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.base import LOG_LINES, Ending, Machine, MachineState, MachineStatus, Standing, Traits
from flows.gpus.errors import GpuError, LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.prices import priced_at
from flows.gpus.settings import SshHost, SshSection
from flows.gpus.ssh import carried
from flows.gpus.ssh.client import HostClient, WrongHostKey, name_of
from flows.gpus.starting import WORK, start_of
from flows.gpus.tags import lease_in, tag_of

log = logging.getLogger("whetstone.gpus")

FRESH_SECONDS = 5.0
"""How long a look at the hosts is good for."""
LINGER_SECONDS = 300.0
"""How long a host that can switch itself off waits for its next machine: a run that died begins again."""
MOST_AT_ONCE = 16

_STATES: dict[str, MachineState] = {"running": "running", "ended": "ended", "gone": "gone"}

T = TypeVar("T")


@dataclass(slots=True)
class _Looked:
    """Hold what hosts last said of themselves."""

    at: float = -FRESH_SECONDS
    offers: tuple[GpuOffer, ...] = field(default=())


class SshProvider:
    """Run trainers on the hosts of a section."""

    def __init__(self, name: str, section: SshSection, installation: str, folder: Path) -> None:
        self._name = name
        self._section = section
        self._installation = installation
        self._folder = folder
        self._hosts = {name_of(host): HostClient(host, folder) for host in section.hosts}
        self._looked = _Looked()

    @property
    def name(self) -> str:
        """Return the name that leases carry."""
        return self._name

    @property
    def settles(self) -> timedelta:
        """Return zero: the same lease gives the same machine."""
        return timedelta(0)

    @property
    def traits(self) -> Traits:
        """Return those of the worst of its hosts."""
        return Traits(ending_of(self._section.hosts), elsewhere=True, priced=False)

    def standing(self) -> Standing:
        """Log in everywhere; one host that lets us in is enough."""
        found = self._ask_all(lambda client: client.call("list"))
        return Standing(", ".join(sorted(f"{client.host.user}@{client.name}" for client, _ in found)))

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return every host that answers and is free; looked at again after some seconds."""
        if time.monotonic() - self._looked.at > FRESH_SECONDS:
            found = self._ask_all(self._offer_of)
            self._looked.offers = tuple(offer for _, offer in found if offer is not None)
            self._looked.at = time.monotonic()
        return self._looked.offers

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Start the trainer on the offer's host, or find the one that was started under this lease.

        Raises:
            ProviderAway: the host does not answer, or its answer was lost: asked again, it is found.
            LaunchRefused: the host is busy, cannot run it, shows another key, or is none of ours any more.
            TokenRefused: it does not take our key.
        """
        client = self._hosts.get(lease.offer.offer_id)
        if client is None:
            raise LaunchRefused(
                expected="a host of whetstone.toml",
                got=lease.offer.offer_id,
                where=f"providers.{self._name}",
                now="Another offer is tried.",
            )
        self._looked = _Looked()
        try:
            answer = client.call("launch", **self._details(client.host, lease, ticket))
            with readable(client.name):
                needs_source = answer.get("need") == "source"
            if needs_source:
                source = carried.source()
                client.call("source", source.content, source=source.sha256, size=len(source.content))
                answer = client.call("launch", **self._details(client.host, lease, ticket))
        except WrongHostKey as error:
            # Nothing was sent, so nothing runs; waiting for the host to be itself again helps no run.
            raise LaunchRefused(
                expected=error.expected, got=error.got, where=error.where, now=error.now
            ) from error
        with readable(client.name):
            return f"{client.name}/{answer['machine']}"

    def status(self, machine: str) -> MachineStatus:
        """Return whether the trainer's process or container lives."""
        client, tag = self._place_of(machine)
        seen = client.call("status", tag=tag)
        with readable(client.name):
            return MachineStatus(_STATES[seen["state"]], str(seen["detail"]))

    def logs(self, machine: str) -> str:
        """Return the end of the machine's log: set-up, then training."""
        client, tag = self._place_of(machine)
        return "\n".join(str(client.call("logs", tag=tag)).splitlines()[-LOG_LINES:])

    def terminate(self, machine: str) -> None:
        """End the trainer and every process it started."""
        client, tag = self._place_of(machine)
        self._looked = _Looked()
        client.call("terminate", tag=tag)

    def list_ours(self) -> tuple[Machine, ...]:
        """Return what runs under our tags on the hosts that answer.

        A host that is away is left out: its machines end by their guards, and show again when it is back.
        """
        found = self._ask_all(_tags_on)
        return tuple(
            Machine(f"{client.name}/{tag}", lease_id)
            for client, tags in found
            for tag in tags
            if (lease_id := lease_in(self._installation, tag)) is not None
        )

    def _details(self, host: SshHost, lease: Lease, ticket: Path) -> dict[str, Any]:
        # The guard on the host switches it off, whatever became of the trainer; the trainer need not.
        start = start_of(lease, ticket, self._section.image)
        here = host.runtime == "venv"
        return {
            "tag": tag_of(self._installation, lease.lease_id),
            "run_id": lease.run_id,
            "seconds": max((lease.deadline - utc_now()).total_seconds(), 0.0),
            "environment": start.environment,
            "work_in": WORK,
            "command": list(start.command),
            "runtime": host.runtime,
            "image": start.image,
            "python": host.python,
            "modules": list(carried.MODULES_NEEDED),
            "source": carried.source().sha256 if here else "",
            "requirements": list(carried.requirements()) if here else [],
            "replaced": [list(pair) for pair in carried.replaced()] if here else [],
            "power_off": host.power_off,
            "linger": LINGER_SECONDS,
        }

    def _offer_of(self, client: HostClient) -> GpuOffer | None:
        seen = client.call("look", modules=carried.MODULES_NEEDED)
        with readable(client.name):
            if seen["busy"]:
                return None
            needs_pip = client.host.runtime == "venv" and not seen["prepared"]
            python, offer = str(seen["python"]), self._offer(client.host, seen)
        if needs_pip:
            # A paid hour must not be what tells that pip finds no wheel.
            client.require_python(python)
        return offer

    def _offer(self, host: SshHost, seen: dict[str, Any]) -> GpuOffer:
        if seen["cards_why"]:
            log.warning("gpus.driver_does_not_answer host=%s error=%s", name_of(host), seen["cards_why"])
        alike = [card for card in seen["cards"] if card == seen["cards"][0]]
        gpu, memory = alike[0] if alike else ("cpu", 0)
        return GpuOffer(
            provider=self._name,
            offer_id=name_of(host),
            gpu=host.gpu or gpu,
            gpu_count=host.gpu_count or len(alike),
            gpu_memory_mib=host.gpu_memory_mib or memory,
            on_demand_price=host.price,
            region=host.region or host.host,
            price_source="whetstone.toml",
            priced_at=priced_at(self._folder),
            cpu_count=seen["cpu_count"],
            memory_mib=seen["memory_mib"],
            disk_mib=seen["disk_mib"],
        )

    def _place_of(self, machine: str) -> tuple[HostClient, str]:
        name, _, tag = machine.rpartition("/")
        if name not in self._hosts:
            raise ProviderAway(
                expected=f"a host of providers.{self._name}", got=f"{name}, which is not there any more",
                where=machine, now="Put the host back into whetstone.toml until its machine has ended.",
            )  # fmt: skip
        return self._hosts[name], tag

    def _ask_all(self, ask: Callable[[HostClient], T]) -> list[tuple[HostClient, T]]:
        """Return the answers of the hosts that gave one, asked side by side.

        Raises:
            TokenRefused, ProviderAway: none did.
        """
        clients = list(self._hosts.values())
        with ThreadPoolExecutor(min(len(clients), MOST_AT_ONCE)) as pool:
            answers = list(pool.map(lambda client: _try(ask, client), clients))
        errors = [one for one in answers if isinstance(one, GpuError)]
        for error in errors:
            log.warning("gpus.host_is_away provider=%s error=%s", self._name, error)
        if len(errors) == len(clients):
            raise _worst(errors)
        return [
            (client, answer)
            for client, answer in zip(clients, answers, strict=True)
            if not isinstance(answer, GpuError)
        ]


def ending_of(hosts: Sequence[SshHost]) -> Ending:
    """Return how machines end on the host that is left to itself the longest."""
    guard = (
        "a guard on the host, started with the trainer, ends it at the lease's deadline without any network"
    )
    paid = [host for host in hosts if host.price != 0.0]
    open_ended = [name_of(host) for host in paid if not host.power_off]
    if not paid:
        return Ending(
            "own-process", f"{guard}; the hosts cost nothing. Fails if the guard is killed meanwhile"
        )
    if open_ended:
        names = ", ".join(open_ended)
        return Ending(
            "none",
            f"{guard}, but the host stays on and its bill with it: no power_off for {names}. Somebody has to "
            "give it back to its seller",
        )
    return Ending(
        "guest-power-off",
        f"{guard}, then runs the host's power_off. The bill ends only where the seller does not charge for a "
        "machine that is off; fails if the guard is killed while all of ours are dead, or if power_off fails",
    )


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Tell an answer of another shape as none: a host is its seller's, and may say anything."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ProviderAway(
            expected="an answer as our program on the host gives it",
            got=f"another one ({type(error).__name__})", where=where,
            now="See what answers at that host in our program's place.",
        ) from None  # fmt: skip


def _tags_on(client: HostClient) -> list[str]:
    tags = client.call("list")
    with readable(client.name):
        if not isinstance(tags, list):
            raise TypeError
        return [str(tag) for tag in tags]


def _try(ask: Callable[[HostClient], T], client: HostClient) -> T | GpuError:
    try:
        return ask(client)
    except GpuError as error:
        return error


def _worst(errors: list[GpuError]) -> GpuError:
    """Return the error that a person has to hear: a key to renew before a host to wait for."""
    error = next((one for one in errors if isinstance(one, TokenRefused)), errors[0])
    if isinstance(error, LaunchRefused):
        return ProviderAway(expected=error.expected, got=error.got, where=error.where, now=error.now)
    return error
