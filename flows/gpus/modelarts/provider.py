"""Rent training jobs of Huawei Cloud ModelArts.

A job is a container that the seller starts from an image in its own registry (SWR), bills by the second and
removes when its program ends; a job that ended costs nothing and stays in the list, so none is deleted but
those the seller has lost sight of. The seller's key never goes to the machine.
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
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.modelarts.calls import EXTRA, PACKAGE, ModelArtsCalls
from flows.gpus.modelarts.rules import ABNORMAL, TERMINATING, Job, Wanted, offers_of
from flows.gpus.prices import priced_at, whole
from flows.gpus.sdk.calls import CallRefused, require_package
from flows.gpus.sdk.keys import require_lasting_pair
from flows.gpus.settings import ModelArtsSection
from flows.gpus.starting import start_of
from flows.gpus.tags import PREFIX, lease_in, tag_of
from flows.gpus.tokens import KeptToken

log = logging.getLogger("whetstone.gpus")

SETTLES = timedelta(minutes=2)
"""Taken, not told: ModelArts does not say how late its list may be."""
HOUR = timedelta(hours=1)
ENDING = Ending(
    "server-deadline",
    "ModelArts stops a job spec.auto_stop after it began to run, which counts whole hours: up to one hour"
    " after its lease (the SDK's model says so; no account was at hand to see it). The trainer ends itself at"
    " the end of its lease, and its bill with it",
)


class ModelArtsProvider:
    """Be the adapter; `now` may be another clock than the machine's."""

    def __init__(
        self,
        name: str,
        section: ModelArtsSection,
        installation: str,
        folder: Path,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        require_package(PACKAGE, EXTRA, name)
        self._name, self._section, self._installation, self._folder = name, section, installation, folder
        self._now = now
        self._calls = ModelArtsCalls(name, section, KeptToken(section.token, folder))

    @property
    def name(self) -> str:
        """Return the name that leases carry."""
        return self._name

    @property
    def settles(self) -> timedelta:
        """Return after how long a job surely shows."""
        return SETTLES

    @property
    def traits(self) -> Traits:
        """Return those of a seller that ends jobs itself and names no prices."""
        return Traits(ENDING, priced=False)

    def standing(self) -> Standing:
        """Ask for our jobs, which needs the rights a launch rests on."""
        pair = self._calls.key()
        require_lasting_pair(pair, self._section.token, self._now())
        next(self._calls.jobs(self._prefix), None)
        return Standing(pair.shown, pair.ends_at)

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return what the settings name and ModelArts lists."""
        return tuple(offers_of(self._name, self._section, self._calls.flavors(), priced_at(self._folder)))

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Create the job of a lease.

        Raises:
            LaunchRefused: ModelArts will not, or the settings no longer name the offer.
        """
        wanted = self._wanted(lease, ticket)
        try:
            return self._calls.create(wanted)
        except CallRefused as error:
            if error.kind == "conflict":
                return self._named(wanted.name, error)
            raise LaunchRefused(
                expected=f"a job on {wanted.flavor}", got=error.got, where=error.where,
                now="Another offer is tried.",
            ) from error  # fmt: skip

    def status(self, machine: str) -> MachineStatus:
        """Return how a job is; one that ModelArts lost sight of has ended."""
        job = self._calls.job(machine)
        if job is None:
            return MachineStatus("gone")
        return MachineStatus("running" if job.runs else "ended", job.phase)

    def logs(self, machine: str) -> str:
        """Return the last lines of the job's first task."""
        job = self._calls.job(machine)
        if job is None or not job.tasks:
            return ""
        return "\n".join(self._calls.log(machine, job.tasks[0]).splitlines()[-LOG_LINES:])

    def terminate(self, machine: str) -> None:
        """Terminate a job; one that has ended, ends, or is not ours, is left as it is."""
        job = self._calls.job(machine)
        if job is None or not job.costs or job.phase == TERMINATING or not self._is_ours(job):
            return
        if job.phase == ABNORMAL:
            # It can no longer be terminated; without it nothing is left that could be billed.
            self._calls.delete(machine)
            return
        try:
            self._calls.stop(machine)
        except CallRefused:
            # It may have ended between the two calls.
            again = self._calls.job(machine)
            if again is not None and again.costs:
                raise

    def list_ours(self) -> tuple[Machine, ...]:
        """Return our jobs that run, wait, end, or were lost sight of."""
        found = []
        for job in self._calls.jobs(self._prefix):
            lease_id = lease_in(self._installation, job.name)
            if lease_id is not None and job.costs:
                found.append(Machine(job.job_id, lease_id))
        return tuple(found)

    @property
    def _prefix(self) -> str:
        return f"{PREFIX}-{self._installation}-"

    def _named(self, name: str, error: CallRefused) -> str:
        """Return the job that has the name already: an earlier launch of this lease made it.

        Raises:
            ProviderAway: it does not show yet, or it has ended.
        """
        found = [job.job_id for job in self._calls.jobs(name) if job.name == name]
        if found:
            return found[0]
        raise ProviderAway(
            expected="the job that has the name already", got=error.got, where=error.where,
            now="It is looked for again.",
        ) from error  # fmt: skip

    def _is_ours(self, job: Job) -> bool:
        ours = lease_in(self._installation, job.name) is not None
        if not ours:
            log.warning("gpus.not_ours provider=%s machine=%s name=%s", self._name, job.job_id, job.name)
        return ours

    def _wanted(self, lease: Lease, ticket: Path) -> Wanted:
        priced = next((spec for spec in self._section.specs if spec.spec == lease.offer.offer_id), None)
        if priced is None:
            raise LaunchRefused(
                expected="one of the specs in the settings", got=lease.offer.offer_id,
                where=f"whetstone.toml: providers.{self._name}", now="Another offer is tried.",
            )  # fmt: skip
        start = start_of(lease, ticket, self._section.image)
        return Wanted(
            name=tag_of(self._installation, lease.lease_id),
            image=start.image,
            command=shlex.join(start.command),
            environment=start.environment,
            flavor=priced.spec,
            hours=whole(lease.deadline - self._now(), HOUR),
        )
