"""Rent training jobs of Alibaba Cloud PAI-DLC.

A job is a container that the seller starts, bills by the minute and removes when its program ends or its
longest running time is over; a stopped job costs nothing and stays in the list, so none is deleted: its
page tells a person what became of it. The seller's key never goes to the machine.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.base import LOG_LINES, Ending, Machine, MachineStatus, Standing, Traits
from flows.gpus.errors import LaunchRefused
from flows.gpus.pai_dlc.calls import EXTRA, PACKAGE, PaiCalls
from flows.gpus.pai_dlc.rules import STOPPING, Job, Wanted, offers_of, out_of_quota, spot_limit
from flows.gpus.prices import priced_at, whole
from flows.gpus.sdk.calls import CallRefused, require_package
from flows.gpus.sdk.keys import require_lasting_pair
from flows.gpus.settings import PaiDlcSection
from flows.gpus.starting import start_of
from flows.gpus.tags import PREFIX, lease_in, tag_of
from flows.gpus.tokens import KeptToken

log = logging.getLogger("whetstone.gpus")

SETTLES = timedelta(minutes=2)
"""Taken, not told: PAI-DLC does not say how late its list may be."""
LISTED_FOR = timedelta(days=60)
"""How old a job may be that is looked for: longer than any lease of a paid machine."""
MINUTE = timedelta(minutes=1)
ENDING = Ending(
    "server-deadline",
    "PAI-DLC stops a job JobMaxRunningTimeMinutes after it began to run, set from the lease and rounded up"
    " to a minute; should waiting not count, a job that waited ends as much later. The trainer ends itself"
    " at the end of its lease in any case",
)


class PaiDlcProvider:
    """Be the adapter; `now` may be another clock than the machine's."""

    def __init__(
        self,
        name: str,
        section: PaiDlcSection,
        installation: str,
        folder: Path,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        require_package(PACKAGE, EXTRA, name)
        self._name, self._section, self._installation, self._folder = name, section, installation, folder
        self._now = now
        self._calls = PaiCalls(name, section, KeptToken(section.token, folder))

    @property
    def name(self) -> str:
        """Return the name that leases carry."""
        return self._name

    @property
    def settles(self) -> timedelta:
        """Return after how long a job surely shows: two jobs may have one name, so it is waited for."""
        return SETTLES

    @property
    def traits(self) -> Traits:
        """Return those of a seller that ends jobs itself and names no prices."""
        return Traits(ENDING, priced=False)

    def standing(self) -> Standing:
        """Ask for the kinds of machines, and one page of jobs: the two rights a launch rests on."""
        pair = self._calls.key()
        require_lasting_pair(pair, self._section.token, self._now())
        next(self._calls.jobs(self._prefix, self._now() - MINUTE), None)
        return Standing(pair.shown, pair.ends_at)

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return what the settings name and PAI-DLC has now."""
        return tuple(offers_of(self._name, self._section, self._calls.specs(), priced_at(self._folder)))

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Create the job of a lease.

        Raises:
            LaunchRefused: PAI-DLC will not, or the settings no longer name the offer.
        """
        wanted = self._wanted(lease, ticket)
        try:
            return self._calls.create(wanted)
        except CallRefused as error:
            raise LaunchRefused(
                expected=f"a job on {wanted.spec}", got=error.got, where=error.where,
                now="Another offer is tried.",
            ) from error  # fmt: skip

    def status(self, machine: str) -> MachineStatus:
        """Return how a job is; one whose machine is kept after its program's end has ended."""
        job = self._calls.job(machine)
        if job is None:
            return MachineStatus("gone")
        told = f"{job.status}: {job.reason}" if job.reason else job.status
        return MachineStatus("running" if job.runs else "ended", told)

    def logs(self, machine: str) -> str:
        """Return the last lines of the job's container."""
        job = self._calls.job(machine)
        if job is None or not job.pods:
            return ""
        return "\n".join(self._calls.log_lines(machine, job.pods[-1], LOG_LINES))

    def terminate(self, machine: str) -> None:
        """Stop a job; one that has ended, or is not ours, is left as it is."""
        job = self._calls.job(machine)
        if job is None or not job.costs or not self._is_ours(job):
            return
        try:
            self._calls.stop(machine)
        except CallRefused:
            # It may have ended between the two calls, or have been told to stop before.
            again = self._calls.job(machine)
            if again is not None and again.costs and again.status != STOPPING:
                raise

    def list_ours(self) -> tuple[Machine, ...]:
        """Return our jobs that run, wait, or keep their machine."""
        found = []
        for job in self._calls.jobs(self._prefix, self._now() - LISTED_FOR):
            lease_id = lease_in(self._installation, job.name)
            if lease_id is not None and job.costs:
                found.append(Machine(job.job_id, lease_id))
        return tuple(found)

    @property
    def _prefix(self) -> str:
        return f"{PREFIX}-{self._installation}-"

    def _is_ours(self, job: Job) -> bool:
        ours = lease_in(self._installation, job.name) is not None
        if not ours:
            log.warning("gpus.not_ours provider=%s machine=%s name=%s", self._name, job.job_id, job.name)
        return ours

    def _wanted(self, lease: Lease, ticket: Path) -> Wanted:
        offer = lease.offer
        priced = next((spec for spec in self._section.specs if spec.spec == offer.offer_id), None)
        if priced is None:
            raise LaunchRefused(
                expected="one of the specs in the settings", got=offer.offer_id,
                where=f"whetstone.toml: providers.{self._name}", now="Another offer is tried.",
            )  # fmt: skip
        start = start_of(lease, ticket, self._section.image)
        return Wanted(
            name=tag_of(self._installation, lease.lease_id),
            image=start.image,
            command=shlex.join(start.command),
            environment=start.environment,
            spec=priced.spec,
            minutes=whole(lease.deadline - self._now(), MINUTE),
            spot=spot_limit(lease, priced, self._section.money) if lease.spot else None,
            resources=out_of_quota(offer) if self._section.resource else None,
        )
