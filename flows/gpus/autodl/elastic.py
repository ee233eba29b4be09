"""Rent AutoDL elastic deployments: one deployment of type Job with one container a lease, its name our tag.

Job is the one type under which a container that ends stays ended: a ReplicaSet starts another in its place,
paid like the first, each time one stops. Should a container end and another begin all the same, the first
end counts: `status` says that the machine has ended, so that whoever asked ends the deployment.

`price_to` is the price agreed: AutoDL places the container on no dearer machine. A deployment that finds no
GPU is not refused but waits, so a launch waits for its container, then withdraws it. Without us a container
ends with its command. AutoDL asks for the certification of an enterprise; without it every call but the
stock is refused.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.autodl.account import SOURCE, Pace, require_balance, standing_of
from flows.gpus.autodl.client import AutodlClient, Method, named, whole
from flows.gpus.autodl.command import command_of_container
from flows.gpus.autodl.errors import CallRefused, NoSuchRecord
from flows.gpus.autodl.money import milli_of, require_yuan
from flows.gpus.autodl.stock import REGIONS, idle_in, in_regions, stock_body
from flows.gpus.base import LOG_LINES, Ending, Machine, MachineStatus, Standing, Traits
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.prices import dollars, gpu_of, priced_at
from flows.gpus.settings import AutodlElasticSection, PricedSpec
from flows.gpus.starting import start_of
from flows.gpus.tags import lease_in, tag_of
from flows.gpus.tokens import KeptToken

log = logging.getLogger("whetstone.gpus")

ROOT = "/api/v1/dev/deployment"
STOCK = "/api/v1/dev/machine/region/gpu_stock"
TYPE = "Job"
ENDING = Ending(
    "exit-ends",
    "a container ends with its command, which `timeout` ends a little after the lease; it would not hold if "
    "the image had no `timeout`, or if AutoDL started a Job's container again.",
)
LEAST_PRICE = 10
"""Lower end of the price range, in thousandths of a yuan, as AutoDL's documentation writes it."""
_OVER = frozenset({"shutdown", "shutting_down"})


class AutodlElasticProvider:
    """Rent containers of elastic deployments with the token of one account.

    Args:
        name: what leases call this provider.
        section: its settings.
        installation: whose machines are ours.
        folder: the installation's folder.
        pace: how patiently AutoDL is waited for.
    """

    def __init__(
        self,
        name: str,
        section: AutodlElasticSection,
        installation: str,
        folder: Path,
        *,
        pace: Pace | None = None,
    ) -> None:
        require_yuan(section.money, name)
        self._name = name
        self._section = section
        self._installation = installation
        self._folder = folder
        self._pace = pace or Pace()
        self._client = AutodlClient(name, section.url, KeptToken(section.token, folder))
        self._launched: dict[str, float] = {}

    @property
    def name(self) -> str:
        """Return the name that leases carry."""
        return self._name

    @property
    def settles(self) -> timedelta:
        """Return how late the list may be: not documented, so ample."""
        return self._pace.settles

    @property
    def traits(self) -> Traits:
        """Return how a container ends without us, and that prices are the most a person agreed to pay."""
        return Traits(ENDING, priced=False)

    def standing(self) -> Standing:
        """Ask for balance and deployments, which tells whether the token is good and the account certified.

        Raises:
            TokenRefused: the token is not good, or the account lacks the certification of an enterprise.
        """
        standing = standing_of(self._client, self._section, self._pace.now())
        self._client.send("POST", f"{ROOT}/list", {"page_index": 1, "page_size": 1})
        return standing

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return what has idle GPUs now, each region an offer, at the most that would be paid for it."""
        at = priced_at(self._folder)
        return tuple(
            GpuOffer(
                provider=self._name,
                offer_id=_offer_id(region, spec),
                gpu=gpu_of(spec.gpu),
                gpu_count=spec.gpu_count,
                gpu_memory_mib=spec.gpu_memory_mib,
                on_demand_price=dollars(spec.price, self._section.money),
                region=region,
                price_source=SOURCE,
                priced_at=at,
            )
            for region, spec in in_regions(self._section.regions or REGIONS, self._in_stock)
        )

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Create a deployment under a lease, or find the one it has, and wait for its container.

        Raises:
            LaunchRefused: no such offer, too little money, or no GPU was found; nothing is left of it.
            TokenRefused: the token is wrong, or the account is not certified.
        """
        region, spec = self._spec_of(lease)
        # (1) token, balance and right, before anything can cost money
        require_balance(self.standing(), self._section, self._name)
        # (2) what an earlier call made is taken, as far as the list shows it
        found = [one.machine for one in self.list_ours() if one.lease_id == lease.lease_id]
        if found:
            return sorted(found)[0]
        # (3) an offer may have vanished between choice and launch
        if spec not in self._in_stock(region):
            raise self._refused("no idle GPU", f"{spec.gpu_count} idle {spec.spec}", region)
        # (4) a deployment is made whether there is a GPU or not
        machine = self._create(lease, spec, region, ticket)
        self._launched[machine] = time.monotonic()
        # (5) so its container is waited for, or the deployment withdrawn
        if not self._pace.wait(lambda: bool(self._containers(machine)), self._pace.placing):
            self.terminate(machine)
            raise self._refused(f"no container within {self._pace.placing:.0f} s", "a GPU", region)
        return machine

    def status(self, machine: str) -> MachineStatus:
        """Return how a deployment's container is; the first one that ended ends the machine."""
        row = self._row(machine)
        if row is None:
            # A list that lags must not make a machine look gone that was made a moment ago.
            return (
                MachineStatus("running", "not listed yet") if self._is_new(machine) else MachineStatus("gone")
            )
        words = [str(one.get("status", "")) for one in self._containers(machine)]
        told = ", ".join(words) or "no container yet"
        if row.get("status") == "stopped" or whole(row.get("finished_num")) > 0:
            return MachineStatus("ended", told)
        return MachineStatus("ended" if any(word in _OVER for word in words) else "running", told)

    def logs(self, machine: str) -> str:
        """Return the container's steps: AutoDL keeps no output; the trainer's events are in the bucket."""
        asked = {"deployment_uuid": machine}
        try:
            rows = list(self._client.pages(f"{ROOT}/container/event/list", asked))
        except NoSuchRecord:
            return ""
        lines = [
            f"{row.get('created_at', '')} {row.get('deployment_container_uuid', '')} {row.get('status', '')}"
            for row in rows
        ]
        return "\n".join(sorted(lines)[-LOG_LINES:])

    def terminate(self, machine: str) -> None:
        """Stop a deployment, see its containers end, delete it, and see that it is gone.

        Raises:
            ProviderAway: it is still there; the call is made again and goes on from there.
        """
        self._launched.pop(machine, None)
        # (1) stopping ends the containers and keeps new ones from starting
        if not self._order("PUT", f"{ROOT}/operate", {"deployment_uuid": machine, "operate": "stop"}):
            return
        # (2) the bill ends with the container, not with the order
        self._pace.wait(lambda: not self._is_active(machine), self._pace.patience)
        # (3) a deployment that still runs is stopped first by this
        self._order("DELETE", ROOT, {"deployment_uuid": machine})
        # (4) a deleted one is in no list
        if not self._pace.wait(lambda: self._row(machine) is None, self._pace.patience):
            raise ProviderAway(
                expected="a deployment that is deleted", got="one that is still listed",
                where=f"{machine} of {self._name}", now="It is ended again at the next round.",
            )  # fmt: skip

    def list_ours(self) -> tuple[Machine, ...]:
        """Return every deployment with our name that is not deleted, stopped ones too."""
        found = []
        for row in self._client.pages(f"{ROOT}/list", {}):
            lease_id, machine = lease_in(self._installation, str(row.get("name", ""))), row.get("uuid")
            if machine and lease_id is not None:
                found.append(Machine(str(machine), lease_id))
        return tuple(found)

    def _create(self, lease: Lease, spec: PricedSpec, region: str, ticket: Path) -> str:
        start = start_of(lease, ticket, self._section.image_uuid)
        price = lease.price if lease.price is not None else dollars(spec.price, self._section.money)
        template = {
            "dc_list": [region],
            "gpu_name_set": [spec.spec],
            "gpu_num": spec.gpu_count,
            "cuda_v_from": self._section.cuda,
            "cuda_v_to": max(self._section.cuda, self._section.cuda_to),
            # Floors are no requests, and high ones find no machine; ranges as in the documentation.
            "cpu_num_from": 1, "cpu_num_to": 100, "memory_size_from": 1, "memory_size_to": 256,
            "price_from": LEAST_PRICE,
            "price_to": milli_of(price, self._section.money),
            "image_uuid": start.image,
            "cmd": command_of_container(start, lease.deadline, self._pace.now()),
        }  # fmt: skip
        body = {
            "name": tag_of(self._installation, lease.lease_id),
            "deployment_type": TYPE,
            "replica_num": 1,
            "parallelism_num": 1,
            # A container taken over from an earlier run would bring that one's files along.
            "reuse_container": False,
            "container_template": template,
        }
        try:
            return named(self._client.send("POST", ROOT, body)["deployment_uuid"], f"{self._name}: {ROOT}")
        except (CallRefused, NoSuchRecord) as error:
            raise self._refused(error.got, f"a deployment with {spec.spec}", region) from error
        except (TypeError, KeyError) as error:
            raise ProviderAway(
                expected="the uuid of a deployment", got=type(error).__name__, where=f"{self._name}: {ROOT}"
            ) from error

    def _in_stock(self, region: str) -> tuple[PricedSpec, ...]:
        body = stock_body(region, self._section)
        idle = idle_in(self._client.send("POST", STOCK, body))
        return tuple(spec for spec in self._section.specs if idle.get(spec.spec, 0) >= spec.gpu_count)

    def _spec_of(self, lease: Lease) -> tuple[str, PricedSpec]:
        for region in self._section.regions or REGIONS:
            for spec in self._section.specs:
                if _offer_id(region, spec) == lease.offer.offer_id:
                    return region, spec
        raise self._refused(lease.offer.offer_id, "an offer of the settings", "whetstone.toml")

    def _row(self, machine: str) -> dict[str, Any] | None:
        rows = self._client.pages(f"{ROOT}/list", {"deployment_uuid": machine})
        return next((row for row in rows if row.get("uuid") == machine), None)

    def _containers(self, machine: str) -> list[dict[str, Any]]:
        """Return the deployment's containers, ended ones too."""
        found: list[dict[str, Any]] = []
        for released in (False, True):
            asked = {"deployment_uuid": machine, "released": released}
            try:
                found += self._client.pages(f"{ROOT}/container/list", asked)
            except NoSuchRecord:
                continue
        return list({str(one.get("uuid")): one for one in found}.values())

    def _is_active(self, machine: str) -> bool:
        return any(one.get("status") != "shutdown" for one in self._containers(machine))

    def _is_new(self, machine: str) -> bool:
        began = self._launched.get(machine)
        return began is not None and time.monotonic() - began < self._pace.settles.total_seconds()

    def _order(self, method: Method, path: str, body: dict[str, Any]) -> bool:
        """Order something and return whether the deployment exists; a no is looked into by whoever called."""
        try:
            self._client.send(method, path, body)
        except NoSuchRecord:
            return False
        except CallRefused as error:
            log.info(
                "gpus.autodl_refused order=%s machine=%s said=%s", path, body["deployment_uuid"], error.got
            )
        return True

    def _refused(self, got: str, expected: str, where: str) -> LaunchRefused:
        return LaunchRefused(
            expected=expected, got=got, where=f"{where} of {self._name}", now="Another offer is tried."
        )


def _offer_id(region: str, spec: PricedSpec) -> str:
    return f"{region}/{spec.spec}x{spec.gpu_count}"
