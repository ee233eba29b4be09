"""Rent from the simulated cloud through the port."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus import this_machine
from flows.gpus.base import LOG_LINES, Ending, Machine, MachineStatus, Standing, Traits
from flows.gpus.errors import LaunchRefused
from flows.gpus.settings import SimulatedSection
from flows.gpus.simulated.cloud import TERMINATED, Cloud, Order
from flows.gpus.simulated.host import Hosting
from flows.gpus.simulated.processes import guest_command, guest_environment, start_host
from flows.gpus.simulated.sale import Hardware, has_spot, is_to_be_taken, offers_of
from flows.gpus.starting import CLAIM, Start, start_of
from flows.gpus.tags import lease_in, tag_of

CLOUDS = "clouds"
"""Folder of an installation in which its simulated clouds keep their books."""


class SimulatedProvider:
    """Be the adapter of a simulated cloud; `command` replaces the image's command line in tests."""

    def __init__(
        self,
        name: str,
        section: SimulatedSection,
        installation: str,
        folder: Path,
        *,
        command: tuple[str, ...] = (),
    ) -> None:
        self._name = name
        self._section = section
        self._installation = installation
        self._command = command
        self.cloud = Cloud(folder.resolve() / CLOUDS / name)
        """The cloud itself, which knows more than its interface tells."""

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
        """Return those of a cloud that ends machines by itself, and reaches this host's addresses."""
        how = "each machine's host ends it at its lease's deadline; it fails with this computer alone"
        return Traits(Ending("server-deadline", how), near=True)

    def standing(self) -> Standing:
        """Return at once: the simulated cloud asks for no token."""
        return Standing(f"{self._installation} (simulated)")

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return every region; without a spot price where spot capacity is gone."""
        return offers_of(self._name, self._section, self.cloud.instances(), self._hardware(), utc_now())

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Order a machine; the same lease again returns the same one, also when that has ended.

        Raises:
            LaunchRefused: the region is unknown, dearer than agreed, or has no spot machine left.
        """
        name = tag_of(self._installation, lease.lease_id)
        with self.cloud.ordering():
            if self.cloud.find(name) is not None:
                return name
            price = self._price_of(lease)
            instances = self.cloud.instances()
            start = start_of(lease, ticket, self._section.image)
            # The order is kept before anything starts: a machine nobody knows of cannot be.
            self.cloud.keep(Order(
                name=name, region=lease.offer.offer_id, spot=lease.spot, price=price, ordered_at=utc_now(),
                until=lease.deadline,
            ))  # fmt: skip
            taken = is_to_be_taken(self._section, instances, spot=lease.spot)
            start_host(self._hosting(name, lease, start, taken=taken), self.cloud.folder(name) / "host.log")
        return name

    def status(self, machine: str) -> MachineStatus:
        """Return how a machine is."""
        found = self.cloud.find(machine)
        if found is None:
            return MachineStatus("gone")
        return MachineStatus("running" if found.runs else "ended", found.why)

    def logs(self, machine: str) -> str:
        """Return the end of what a machine wrote."""
        path = self.cloud.console(machine)
        if not path.is_file():
            return ""
        return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def terminate(self, machine: str) -> None:
        """End a machine at once, and clear its disk."""
        if self._is_ours(machine) and (found := self.cloud.find(machine)) is not None and found.runs:
            self.cloud.pull_plug(machine, TERMINATED)

    def list_ours(self) -> tuple[Machine, ...]:
        """Return every machine of this installation that runs."""
        return tuple(
            Machine(one.name, lease_id)
            for one in self.cloud.instances()
            if one.runs and (lease_id := lease_in(self._installation, one.name)) is not None
        )

    def _is_ours(self, machine: str) -> bool:
        return lease_in(self._installation, machine) is not None

    def _price_of(self, lease: Lease) -> float:
        """Return what the machine costs now; an offer that vanished meanwhile is refused."""
        wanted = lease.offer.offer_id
        region = next((one for one in self._section.regions if one.name == wanted), None)
        if region is None:
            raise self._refused(f"one of the regions {[one.name for one in self._section.regions]}", wanted)
        price = region.spot_price if lease.spot else region.price
        if price is None or (
            lease.spot and not has_spot(wanted, self._section, self.cloud.instances(), utc_now())
        ):
            raise self._refused("a spot machine", f"none left in {wanted}")
        agreed = lease.price if lease.price is not None else lease.price_cap or price
        if price > agreed:
            raise self._refused(f"a machine for ${agreed:.2f} an hour", f"${price:.2f}")
        return price

    def _refused(self, expected: str, got: str) -> LaunchRefused:
        return LaunchRefused(
            expected=expected, got=got, where=self._name, now="The next best offer is taken."
        )

    def _hosting(self, name: str, lease: Lease, start: Start, *, taken: bool) -> Hosting:
        disk = self.cloud.disk(name)
        return Hosting(
            place=self.cloud.place,
            name=name,
            until=lease.deadline,
            boot_seconds=self._section.boot_seconds,
            command=guest_command(self._command or start.command),
            environment=guest_environment(disk, start.environment),
            claim=start.environment[CLAIM],
            take_after=self._section.preempt_after_epochs if taken else None,
            notice_seconds=self._section.notice_seconds,
        )

    def _hardware(self) -> Hardware:
        return Hardware(
            this_machine.cores(), this_machine.memory_mib(), this_machine.disk_mib(self.cloud.place)
        )
