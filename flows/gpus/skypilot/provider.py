"""Rent through a SkyPilot API server: one lease, one cluster of one machine, one job on it."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.base import LOG_LINES, Ending, Machine, MachineStatus, Standing, Traits
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.settings import SkypilotSection
from flows.gpus.skypilot import catalog, states
from flows.gpus.skypilot.answers import NO_CLUSTER, RequestFailed, StillWorking, as_away, as_refusal, plain
from flows.gpus.skypilot.client import Pace, SkypilotServer, require_bare
from flows.gpus.skypilot.states import Cluster, Launch
from flows.gpus.skypilot.tasks import launch_body
from flows.gpus.starting import start_of
from flows.gpus.tags import lease_in, tag_of
from flows.gpus.tokens import KeptToken, require_lasting

log = logging.getLogger("whetstone.gpus")

SETTLES = timedelta(minutes=1)
"""The server writes a launch down before it answers; a minute is for a call that is still on its way."""
PACE = Pace()
_LOG_LETTERS = 64_000


class SkypilotProvider:
    """Rent through one SkyPilot API server.

    Args:
        name: what leases call it.
        section: its settings.
        installation: whose machines are ours.
        folder: the installation's, for a token kept in a file.
        pace: how long its requests are waited for.
    """

    def __init__(
        self, name: str, section: SkypilotSection, installation: str, folder: Path, pace: Pace = PACE
    ) -> None:
        self._name = name
        self._section = section
        self._installation = installation
        self._pace = pace
        token = KeptToken(section.token, folder) if section.token else None
        self._server = SkypilotServer(section.url, token)

    @property
    def name(self) -> str:
        """Return the name that leases carry."""
        return self._name

    @property
    def settles(self) -> timedelta:
        """Return after how long a launch surely shows."""
        return SETTLES

    @property
    def traits(self) -> Traits:
        """Return how its machines end: SkyPilot has no deadline on the server's side."""
        how = (
            "the trainer's job is killed a minute after the lease, and SkyPilot's autostop, which the "
            f"machine itself runs, ends it {self._section.idle_minutes} minutes later with rights of the "
            "account; not while a launch still goes on, when the machine hangs, or when SkyPilot could not "
            "reach it and took the autostop back"
        )
        return Traits(Ending("exit-ends", how))

    def standing(self) -> Standing:
        """Ask whether server and token are good for a launch.

        Raises:
            TokenRefused: the server wants a token, another one, or ours ends too soon.
            LaunchRefused: nobody consented to what SkyPilot puts on machines.
            ProviderAway: the server does not answer.
        """
        require_bare(self._section.url)
        token = self._server.token
        ends = require_lasting(token(), token.place, utc_now()) if token else None
        health = self._server.look("/api/health")
        if not isinstance(health, dict) or health.get("status") not in ("healthy", "needs_auth"):
            said = health.get("status") if isinstance(health, dict) else health
            raise ProviderAway(
                expected="a SkyPilot server that says it is healthy", got=plain(f"status {said!r}"),
                where=f"{self._section.url}/api/health",
                now="See whether url is the API server's, and its log.",
            )  # fmt: skip
        if health["status"] == "needs_auth":
            raise TokenRefused(
                expected="a token", got="none" if token is None else "one the server does not know",
                where=token.place if token else self._section.url,
                now="Make a service account token in its dashboard and put it where `token` says.",
            )  # fmt: skip
        self._require_consent()
        user = health.get("user")
        name = user.get("name") if isinstance(user, dict) else None
        return Standing(str(name or f"SkyPilot {health.get('version')}"), ends)

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return what the server's catalogue lists for the clouds it has an account with."""
        try:
            clouds = catalog.clouds_of(self._server.ask("/enabled_clouds"), self._section)
            if not clouds:
                return ()
            question = {"gpus_only": True, "clouds": clouds, "all_regions": True}
            rows = self._server.ask("/list_accelerators", question, self._pace.asking)
        except RequestFailed as failure:
            raise as_away(failure) from None
        return catalog.offers_of(rows, self._name, self._section, utc_now())

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Have a cluster launched; return soon, `status` tells how it goes on.

        Raises:
            LaunchRefused: nobody consented, the offer is gone or dearer, or the server refused at once.
            ProviderAway: the server does not answer; a cluster may be coming.
        """
        self._require_consent()
        name = tag_of(self._installation, lease.lease_id)
        # (1) SkyPilot would put a second job onto a cluster of the same name
        cluster, before = self._known(name)
        if cluster is not None or before.goes_on:
            return name
        # (2) its own price cap does not hold for a pinned instance type, so the price is looked at once more
        self._require_price(lease)
        # (3) from here on a cluster may exist
        start = start_of(lease, ticket, self._section.image)
        try:
            request_id = self._server.order("/launch", launch_body(lease, start, name, self._section))
            self._server.result(request_id, self._pace.quick)
        except StillWorking:
            log.info("gpus.skypilot_launching machine=%s request=%s", name, request_id)
        except RequestFailed as failure:
            # (4) what failed half way may have left a machine
            self.terminate(name)
            raise as_refusal(failure) from None
        return name

    def status(self, machine: str) -> MachineStatus:
        """Return how a machine is, by its cluster, launch and job."""
        if lease_in(self._installation, machine) is None:
            return MachineStatus("gone")
        cluster, launch = self._known(machine)
        job = self._job(machine) if states.needs_job(cluster, launch) else None
        found = states.state_of(cluster, launch, job)
        if cluster is None and launch.status == "FAILED":
            return MachineStatus(found.state, self._why_failed(launch))
        return found

    def logs(self, machine: str) -> str:
        """Return the last lines of the job, or of the launch where there is no job yet."""
        if lease_in(self._installation, machine) is None:
            return ""
        cluster, launch = self._known(machine)
        text = ""
        if cluster is not None and cluster.status == "UP":
            body = {"cluster_name": machine, "job_id": None, "follow": False, "tail": LOG_LINES}
            text = self._server.text("/logs", body)
        if not text and launch.request_id:
            query = {"request_id": launch.request_id, "follow": "false", "format": "plain"}
            text = self._server.text("/api/stream", query={**query, "tail": str(LOG_LINES)})
        return "\n".join(plain(text, _LOG_LETTERS).splitlines()[-LOG_LINES:])

    def terminate(self, machine: str) -> None:
        """End a cluster and whatever still launches it; its record is never purged while it may live.

        Raises:
            ProviderAway: the server does not answer, or could not end it yet.
        """
        if lease_in(self._installation, machine) is None:
            return
        try:
            # (1) a launch in the queue would make the machine after its end was ordered
            active = states.active_in(self._requests(machine))
            if active:
                self._server.ask("/api/cancel", {"request_ids": active}, self._pace.asking)
            # (2) the server forgets a cluster only when its cloud took the order
            self._server.ask("/down", {"cluster_name": machine, "purge": False}, self._pace.ending)
        except RequestFailed as failure:
            if failure.kind != NO_CLUSTER:
                raise as_away(failure) from None

    def list_ours(self) -> tuple[Machine, ...]:
        """Return every cluster of this installation the server knows, and those it is about to launch."""
        launches = self._launches()
        # Launches first: one that ends in between has its cluster in the later answer.
        names = {*self._clusters(), *(name for name, one in launches.items() if one.goes_on)}
        return tuple(
            Machine(name, lease_id)
            for name in sorted(names)
            if (lease_id := lease_in(self._installation, name)) is not None
        )

    def _known(self, machine: str) -> tuple[Cluster | None, Launch]:
        launch = self._launches(machine).get(machine, Launch())
        return self._clusters(machine).get(machine), launch

    def _clusters(self, machine: str = "") -> dict[str, Cluster]:
        """Return clusters as the server last saw them; it looks at each by itself once a minute.

        A refresh of our own would wait behind launches, for which the server has few hands.
        """
        body: dict[str, Any] = {"refresh": "NONE", "all_users": True, "summary_response": True}
        body |= {"include_credentials": False, "include_handle": False}
        if machine:
            body["cluster_names"] = [machine]
        try:
            return states.clusters_in(self._server.ask("/status", body, self._pace.asking))
        except RequestFailed as failure:
            raise as_away(failure) from None

    def _launches(self, machine: str = "") -> dict[str, Launch]:
        return states.launches_in(self._requests(machine))

    def _requests(self, machine: str) -> Any:
        # Without `fields` the answer would hold the requests' bodies, and with them the claim.
        fields = ["request_id", "name", "status", "cluster_name"]
        query: dict[str, str | list[str]] = {"fields": fields}
        if machine:
            query |= {"cluster_name": machine, "all_status": "true"}
        return self._server.look("/api/status", **query)

    def _job(self, machine: str) -> str | None:
        body = {"cluster_name": machine, "job_ids": None}
        try:
            jobs = self._server.ask("/job_status", body, self._pace.asking)
        except RequestFailed as failure:
            log.warning("gpus.skypilot_job_unknown machine=%s why=%s", machine, failure.got)
            return None
        if not isinstance(jobs, dict):
            log.warning("gpus.skypilot_job_unknown machine=%s why=%s", machine, type(jobs).__name__)
            return None
        statuses = list(jobs.values())
        return str(statuses[-1] or "") if statuses else ""

    def _why_failed(self, launch: Launch) -> str:
        try:
            self._server.result(launch.request_id, self._pace.asking)
        except RequestFailed as failure:
            return f"launch failed: {failure.got}"
        except StillWorking:
            return "it is launched again"
        return "launch failed"

    def _require_price(self, lease: Lease) -> None:
        """Refuse an offer that is gone, or that grew dearer than the lease allows."""
        found = next((one for one in self.offers() if one.offer_id == lease.offer.offer_id), None)
        price = None if found is None else (found.spot_price if lease.spot else found.on_demand_price)
        # What was agreed is what is counted: a price that rose is chosen anew, with all others beside it.
        cap = min((one for one in (lease.price, lease.price_cap) if one), default=0.0)
        if price is None or 0.0 < cap < price:
            raise LaunchRefused(
                expected=lease.offer.offer_id + (f" at most at ${cap:.2f} an hour" if cap > 0.0 else ""),
                got="no such offer any more" if price is None else f"${price:.2f}",
                where=f"SkyPilot's catalogue at {self._section.url}",
                now="Another offer is tried.",
            )

    def _require_consent(self) -> None:
        if not self._section.account_on_machines:
            raise LaunchRefused(
                expected="your word that you know what SkyPilot puts on machines",
                got="none",
                where=f"whetstone.toml: providers.{self._name}.account_on_machines",
                now="SkyPilot gives each machine rights of its cloud account, on Lambda, RunPod and others "
                "even the account's key; set it to true if that is acceptable, best with a separate account.",
            )
