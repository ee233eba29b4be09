"""Rent AutoDL container instances Pro: pay as you go, one instance a lease, its name our tag.

A stopped instance is not a released one: it costs no GPU any more, stays on the account and in `list_ours`,
and is released by `terminate` in four steps. Its price is told only when it exists; one above what was
agreed ends it at once. A machine found later, whose launch was never answered, is looked at the same way:
`status` calls it ended, so that whoever asked ends it.

Without us an instance ends by its own power-off (see `command`): that ends the GPU's bill. It rests on the
start command running in a shell of the instance; if that never ran, the reaper alone ends it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.autodl.account import SOURCE, Pace, require_balance, standing_of
from flows.gpus.autodl.client import AutodlClient, whole
from flows.gpus.autodl.command import POWER_OFF, command_of_instance
from flows.gpus.autodl.errors import CallRefused, NoSuchRecord
from flows.gpus.autodl.money import milli_of, require_yuan, text_of
from flows.gpus.autodl.pro_calls import ProCalls
from flows.gpus.base import Ending, Machine, MachineState, MachineStatus, Standing, Traits
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.prices import dollars, gpu_of, priced_at
from flows.gpus.settings import AutodlProSection, PricedSpec
from flows.gpus.starting import start_of
from flows.gpus.tags import lease_in, tag_of
from flows.gpus.tokens import KeptToken

ENDING = Ending(
    "guest-power-off",
    "the start command powers the instance off when the trainer has ended or its time is over: the GPU's "
    "bill ends, the instance stays until it is released; it would not hold if that command were never run.",
)
_STATES: dict[str, MachineState] = {"shutdown": "ended", "releasing": "ended", "released": "gone"}
"""Every other word, also one nobody has heard of, is taken for a machine that costs."""
_MOST_GPUS = 4


class AutodlProProvider:
    """Rent container instances Pro with the token of one account.

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
        section: AutodlProSection,
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
        self._calls = ProCalls(self._client)
        self._fair: set[str] = set()

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
        """Return how an instance ends without us, and that its prices were written down by a person."""
        return Traits(ENDING, priced=False)

    def standing(self) -> Standing:
        """Ask for the balance, which tells whether the token is good.

        Raises:
            TokenRefused: it is not, or ends within the time a launch takes.
        """
        return standing_of(self._client, self._section, self._pace.now())

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return what the settings name, at the prices written there: the API tells no stock and no price."""
        at = priced_at(self._folder)
        return tuple(
            GpuOffer(
                provider=self._name,
                offer_id=_offer_id(spec),
                gpu=gpu_of(spec.gpu),
                gpu_count=spec.gpu_count,
                gpu_memory_mib=spec.gpu_memory_mib,
                on_demand_price=dollars(spec.price, self._section.money),
                region=",".join(self._section.data_centers) or "any of AutoDL's",
                price_source=SOURCE,
                priced_at=at,
            )
            for spec in self._section.specs
        )

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Create an instance under a lease, or find the one it has.

        Raises:
            LaunchRefused: no such offer, no stock, too little money, or a price above what was agreed.
            TokenRefused: the token is wrong, or the account is not certified.
        """
        spec = self._spec_of(lease)
        # (1) token and balance, before anything can cost money
        require_balance(self.standing(), self._section, self._name)
        # (2) what an earlier call made is taken, as far as the list shows it
        found = [one.machine for one in self.list_ours() if one.lease_id == lease.lease_id]
        if found:
            return sorted(found)[0]
        # (3) the instance starts with its creation
        machine = self._create(lease, spec, ticket)
        # (4) its price is told only now
        price = self._price_soon(machine)
        agreed = self._agreed(lease, spec)
        if price is None or price > agreed:
            self.terminate(machine)
            raise LaunchRefused(
                expected=f"at most {text_of(agreed)} an hour, as agreed",
                got="no price" if price is None else text_of(price), where=f"{machine} of {self._name}",
                now="The instance was ended; correct the price of its spec in whetstone.toml.",
            )  # fmt: skip
        self._fair.add(machine)
        return machine

    def status(self, machine: str) -> MachineStatus:
        """Return how an instance is; a stopped one has ended though it is not released."""
        word = self._calls.word(machine)
        if not word:
            return MachineStatus("gone")
        state = _STATES.get(word, "running")
        if state == "running" and machine not in self._fair:
            excess = self._excess(machine)
            if excess:
                return MachineStatus("ended", f"{word}, and to be ended: {excess}")
        return MachineStatus(state, word)

    def logs(self, machine: str) -> str:
        """Return nothing: the API keeps no output. What the trainer reports is in the bucket."""
        del machine
        return ""

    def terminate(self, machine: str) -> None:
        """Power an instance off, release it, and see that it is gone.

        Raises:
            ProviderAway: it has not stopped or is still listed; the next call goes on from there.
        """
        self._fair.discard(machine)
        # (1) only a stopped instance can be released
        word = self._calls.word(machine)
        if word and word != "shutdown":
            self._calls.order("power_off", machine)
            # (2) it passes through `shutting_down`, in which a release is refused
            word = self._stopped_word(machine)
        if word == "shutdown":
            # (3) releasing ends what a stopped instance still holds, and cannot be undone
            self._calls.order("release", machine)
        # (4) a released instance is in no list, and unknown by name
        if not self._pace.wait(lambda: self._is_gone(machine), self._pace.patience):
            raise self._not_ended(machine, self._calls.word(machine) or "one that is still listed")

    def list_ours(self) -> tuple[Machine, ...]:
        """Return every instance with our name that is not released, stopped ones too."""
        found = []
        for row in self._calls.rows():
            lease_id, machine = lease_in(self._installation, str(row.get("name", ""))), row.get("uuid")
            if machine and lease_id is not None and row.get("status") != "released":
                found.append(Machine(str(machine), lease_id))
        return tuple(found)

    def _create(self, lease: Lease, spec: PricedSpec, ticket: Path) -> str:
        start = start_of(lease, ticket, self._section.image_uuid, power_off=POWER_OFF)
        body: dict[str, Any] = {
            "req_gpu_amount": spec.gpu_count,
            # What is added to the disk would go on costing while the instance is off.
            "expand_system_disk_by_gb": 0,
            "gpu_spec_uuid": spec.spec,
            "image_uuid": start.image,
            "cuda_v_from": self._section.cuda,
            "instance_name": tag_of(self._installation, lease.lease_id),
            "start_command": command_of_instance(start, lease.deadline, self._pace.now()),
        }
        if self._section.data_centers:
            body["data_center_list"] = list(self._section.data_centers)
        try:
            return self._calls.create(body)
        except (CallRefused, NoSuchRecord) as error:
            raise LaunchRefused(
                expected=f"an instance of {spec.spec}",
                got=error.got,
                where=self._name,
                now="Another offer is tried.",
            ) from error

    def _spec_of(self, lease: Lease) -> PricedSpec:
        for spec in self._section.specs:
            if _offer_id(spec) == lease.offer.offer_id and spec.gpu_count <= _MOST_GPUS:
                return spec
        raise LaunchRefused(
            expected=f"one of {', '.join(map(_offer_id, self._section.specs))}, at most {_MOST_GPUS} GPUs",
            got=lease.offer.offer_id, where=f"whetstone.toml: providers.{self._name}.specs",
            now="Another offer is tried.",
        )  # fmt: skip

    def _agreed(self, lease: Lease, spec: PricedSpec) -> int:
        """Return the most an hour may cost, one thousandth more for rounding."""
        price = lease.price if lease.price is not None else dollars(spec.price, self._section.money)
        return milli_of(price, self._section.money) + 1

    def _price_soon(self, machine: str) -> int | None:
        """Return the price of a new instance, which may not be told at once; None when it never is."""
        told: list[int] = []

        def is_told() -> bool:
            price = self._calls.price(machine)
            told.extend([] if price is None else [price])
            return bool(told)

        self._pace.wait(is_told, self._pace.patience)
        return told[0] if told else None

    def _excess(self, machine: str) -> str:
        """Say why an instance launched unheard costs more than its spec's price, "" if it does not."""
        row = next((row for row in self._calls.rows() if row.get("uuid") == machine), {})
        priced = {(spec.spec, spec.gpu_count): spec for spec in self._section.specs}
        spec = priced.get((str(row.get("gpu_spec_uuid")), whole(row.get("req_gpu_amount"))))
        price = self._calls.price(machine) if spec is not None else None
        if spec is None or price is None:
            return ""
        agreed = milli_of(dollars(spec.price, self._section.money), self._section.money) + 1
        if price > agreed:
            return f"it costs {text_of(price)} an hour, and {text_of(agreed)} were agreed"
        self._fair.add(machine)
        return ""

    def _stopped_word(self, machine: str) -> str:
        """Return the word of an instance that has stopped, once it has."""
        words: list[str] = []

        def has_stopped() -> bool:
            words.append(self._calls.word(machine))
            return words[-1] in ("", "shutdown")

        if not self._pace.wait(has_stopped, self._pace.patience):
            raise self._not_ended(machine, words[-1])
        return words[-1]

    def _not_ended(self, machine: str, got: str) -> ProviderAway:
        return ProviderAway(
            expected="a released instance", got=got, where=f"{machine} of {self._name}",
            now="It is ended again at the next round.",
        )  # fmt: skip

    def _is_gone(self, machine: str) -> bool:
        return self._calls.word(machine) in ("", "released") and all(
            row.get("uuid") != machine for row in self._calls.rows()
        )


def _offer_id(spec: PricedSpec) -> str:
    return f"{spec.spec}x{spec.gpu_count}"
