"""Rent machines through a dstack server.

A machine is a run and a fleet of dstack's, both with the lease's name, and a secret that holds the claim.
The server keeps them in one database and takes a name once, so that what was launched shows at once and
asking twice is once. A plan is not a promise: a seller may turn out to have nothing after the run was taken,
which shows as a machine that ended, `failed_to_start_due_to_no_capacity`, and the next offer's turn.
"""

from __future__ import annotations

import base64
import ipaddress
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.base import LOG_LINES, Ending, Machine, MachineStatus, Standing, Traits
from flows.gpus.dstack import specs, states
from flows.gpus.dstack.client import CallRefused, DstackClient, NoSuchThing, readable
from flows.gpus.dstack.offers import place_of, read_offers, why_gone
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.settings import DstackSection
from flows.gpus.starting import CLAIM, start_of
from flows.gpus.tags import lease_in, tag_of
from flows.gpus.tokens import KeptToken

log = logging.getLogger("whetstone.gpus")

PAGE = 100
MOST_PAGES = 100
_SERVER = Ending(
    "server-deadline",
    "dstack ends the run at its max_duration, counted from when the task runs, so that boot comes on top "
    "(dstack gives that up after 10 to 55 minutes); its server has to live and to reach the seller",
)
_OURS = Ending("none", "dstack would end the run, but its server is on this host and ends with it")


class DstackProvider:
    """Rent what the backends of a dstack project offer.

    Args:
        name: what leases call this provider.
        section: its settings.
        installation: whose machines are ours.
        folder: what relative paths of tokens are relative to.
        now: another clock, for tests.
    """

    def __init__(
        self, name: str, section: DstackSection, installation: str, folder: Path,
        *, now: Callable[[], datetime] = utc_now,
    ) -> None:  # fmt: skip
        self._name = name
        self._section = section
        self._installation = installation
        self._now = now
        self._dstack = DstackClient(name, section.url, section.project, KeptToken(section.token, folder))

    @property
    def name(self) -> str:
        """Return the name that leases carry."""
        return self._name

    @property
    def settles(self) -> timedelta:
        """Return zero: a name is taken once, and what was taken shows at once."""
        return timedelta(0)

    @property
    def traits(self) -> Traits:
        """Return that the server keeps the deadline, unless it would end together with us."""
        stays = self._section.outlives_us
        return Traits(_SERVER if stays or (stays is None and not _is_here(self._section.url)) else _OURS)

    def standing(self) -> Standing:
        """Ask who we are, and for a right that a launch needs; dstack tells neither balance nor expiry.

        Raises:
            TokenRefused: the token is not taken, its user is switched off, or may not keep secrets.
        """
        user = self._dstack.ask("users/get_my_user", {})
        # The answer holds the token and a private key as well: nothing else of it may go anywhere.
        with readable(self._name):
            name, active = str(user["username"]), user.get("active", True)
        if not active:
            raise TokenRefused(
                expected="an active user", got=f"{name}, who is not", where=self._section.token,
                now="Let an admin of dstack's server activate the user, or take another one's token.",
            )  # fmt: skip
        self._dstack.ask_project("secrets/list", {})
        return Standing(f"{name} in {self._section.project}")

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return what the project's backends offer for one task now."""
        plan = self._dstack.ask_project("runs/get_plan", specs.offers_query(self._section))
        with readable(self._name):
            return read_offers(plan, self._name, self._section.gpus, self._now())

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Submit the run of a lease, or find the one that was submitted before.

        Raises:
            LaunchRefused: the offer is gone or dearer than agreed, or dstack will not take the run.
            ProviderAway: no answer; whatever exists bears the lease's name.
        """
        tag = tag_of(self._installation, lease.lease_id)
        # (1) an earlier launch may have had its effect though its answer was lost; its name is taken for good
        if self._run(tag) is not None:
            return tag
        # (2) the offer as it is now, not as it was when it was chosen
        wish = self._wish(tag, lease)
        self._require_offer(wish)
        # (3) what costs nothing first: a place for one instance, and the claim where runs do not show it
        start = start_of(lease, ticket, self._section.image)
        claim = start.environment[CLAIM]
        try:
            self._make_fleet(wish)
            self._dstack.ask_project(
                "secrets/create_or_update", {"name": specs.secret_name(tag), "value": claim}, claim
            )
            # (4) from here on it may cost
            plan = {"run_spec": specs.run_spec(self._section, wish, start), "current_resource": None}
            self._dstack.ask_project("runs/apply", {"plan": plan, "force": False}, claim)
        except CallRefused as error:
            # (5) refused because it is there already, or refused
            if self._run(tag) is not None:
                return tag
            self._clear_away(tag)
            raise LaunchRefused(
                expected=f"dstack to take {lease.offer.offer_id}", got=error.got, where=error.where,
                now="Another offer is taken; read dstack's message if it stays.",
            ) from None  # fmt: skip
        return tag

    def status(self, machine: str) -> MachineStatus:
        """Return how a machine is: its run, and once that is over, its instance."""
        if lease_in(self._installation, machine) is None:
            return MachineStatus("gone", "not one of ours")
        run = self._run(machine)
        goes_on = run is not None and not states.is_over(run)
        fleet = None if goes_on else self._fleet(machine)
        with readable(self._name):
            return states.status_of(run, fleet)

    def logs(self, machine: str) -> str:
        """Return the last lines that the task wrote."""
        run = self._run(machine) if lease_in(self._installation, machine) else None
        job = (run or {}).get("latest_job_submission")
        if not job:
            return ""
        with readable(self._name):
            wanted = {"run_name": machine, "job_submission_id": str(job["id"])}
        body = {**wanted, "descending": True, "limit": LOG_LINES}
        answer = self._dstack.ask_project("logs/poll", body)
        with readable(self._name):
            wrote = b"".join(base64.b64decode(event["message"]) for event in reversed(answer["logs"]))
        return "\n".join(wrote.decode("utf-8", errors="replace").splitlines()[-LOG_LINES:])

    def terminate(self, machine: str) -> None:
        """Stop a run, and clear its fleet and secret away once it is over.

        It takes dstack some seconds to stop one; called again until `status` says that it ended.
        """
        if lease_in(self._installation, machine) is None:
            return
        run = self._run(machine)
        if run is not None and not states.is_over(run):
            self._dstack.ask_project("runs/stop", {"runs_names": [machine], "abort": True})
        else:
            self._clear_away(machine)

    def list_ours(self) -> tuple[Machine, ...]:
        """Return every run that goes on, and every fleet in which an instance lives or could start."""
        fleets = self._dstack.ask_project("fleets/list", {})
        with readable(self._name):
            names = {str(fleet["name"]) for fleet in fleets if states.is_open(fleet)}
            names |= {str(run["run_spec"]["run_name"]) for run in self._active_runs()}
        leases = ((name, lease_in(self._installation, name)) for name in sorted(names))
        return tuple(Machine(name, lease) for name, lease in leases if lease)

    def _wish(self, tag: str, lease: Lease) -> specs.Wish:
        place = place_of(lease.offer.offer_id)
        if place is None:
            raise LaunchRefused(expected="an offer of dstack's", got=lease.offer.offer_id, where=self._name)
        # What was agreed is what is counted: a price that rose is chosen anew, with all others beside it.
        limits = [price for price in (lease.price, lease.price_cap) if price]
        seconds = (lease.deadline - self._now()).total_seconds()
        return specs.Wish(tag, place, lease.spot, min(limits, default=None), int(seconds))

    def _require_offer(self, wish: specs.Wish) -> None:
        try:
            plan = self._dstack.ask_project("runs/get_plan", specs.place_query(self._section, wish))
            with readable(self._name):
                gone = why_gone(plan, wish.place, spot=wish.spot, ceiling=wish.ceiling)
        except CallRefused as error:
            gone = error.got
        if gone:
            raise LaunchRefused(
                expected=f"{wish.place.offer_id} as it was offered", got=gone, where=self._name,
                now="Another offer is taken.",
            )  # fmt: skip

    def _make_fleet(self, wish: specs.Wish) -> None:
        fleet = self._fleet(wish.tag)
        with readable(self._name):
            is_open = fleet is not None and states.is_open(fleet)
        if fleet is None:
            plan = {"spec": specs.fleet_spec(wish), "current_resource": None}
            self._dstack.ask_project("fleets/apply", {"plan": plan, "force": False})
        elif not is_open:
            raise ProviderAway(
                expected=f"fleet {wish.tag} free to be made", got="it is being deleted", where=self._name,
                now="It is gone in some seconds; the launch is asked for again.",
            )  # fmt: skip

    def _clear_away(self, tag: str) -> None:
        """Delete what is left of a lease; a fleet that is in use yet stays in the list and is ended again."""
        secret = {"secrets_names": [specs.secret_name(tag)]}
        for path, body in (("fleets/delete", {"names": [tag]}), ("secrets/delete", secret)):
            try:
                with suppress(NoSuchThing):
                    self._dstack.ask_project(path, body)
            except ProviderAway as error:
                log.info("gpus.dstack_not_cleared machine=%s call=%s why=%s", tag, path, error.got)

    def _run(self, name: str) -> dict[str, Any] | None:
        return self._found("runs/get", {"run_name": name})

    def _fleet(self, name: str) -> dict[str, Any] | None:
        return self._found("fleets/get", {"name": name})

    def _found(self, path: str, body: dict[str, str]) -> dict[str, Any] | None:
        try:
            found = self._dstack.ask_project(path, body)
        except NoSuchThing:
            return None
        with readable(self._name):
            return dict(found)

    def _active_runs(self) -> Iterator[dict[str, Any]]:
        body = {
            "project_name": self._section.project,
            "only_active": True,
            "include_jobs": False,
            "limit": PAGE,
        }
        for _ in range(MOST_PAGES):
            page = self._dstack.ask("runs/list", body)
            yield from page
            if len(page) < PAGE:
                return
            body |= {"prev_submitted_at": page[-1]["submitted_at"], "prev_run_id": page[-1]["id"]}
        log.warning("gpus.dstack_list_cut provider=%s pages=%s", self._name, MOST_PAGES)


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
