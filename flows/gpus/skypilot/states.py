"""Make one machine's state of what SkyPilot tells in three places: cluster, launch request and job; pure.

    cluster         launch request   job           machine
    none            goes on          -             running: it is being launched
    none            ended            -             ended
    none            unknown          -             gone
    INIT            goes on          -             running: it is being launched
    INIT, never up  ended, unknown   -             ended: its launch was broken off, and it may cost
    INIT, was up    failed           -             ended: likewise
    INIT, was up    went well        -             running: SkyPilot cannot reach it, which proves nothing
    UP              goes on          -             running
    UP              -                active        running
    UP              -                over or none  ended: nothing trains there any more
    AUTOSTOPPING, STOPPED            -             ended

A cluster SkyPilot cannot reach is not taken for dead: SkyPilot's own controller destroyed healthy work over
status calls that timed out (#10123, #10155). The run's events in the bucket tell better, and its deadline
ends it in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.gpus.base import MachineStatus
from flows.gpus.errors import ProviderAway
from flows.gpus.skypilot.answers import ACTIVE, plain

JOB_ACTIVE = frozenset({"INIT", "PENDING", "SETTING_UP", "RUNNING"})
LAUNCH = "sky.launch"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Hold what is known of a cluster; `was_up` tells the meanings of INIT apart."""

    name: str
    status: str
    was_up: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """Hold the last launch request of a cluster; an empty status where none is known."""

    request_id: str = ""
    status: str = ""

    @property
    def goes_on(self) -> bool:
        """Tell whether the server still works on it."""
        return self.status in ACTIVE

    @property
    def broke_off(self) -> bool:
        """Tell whether it ended without having started a job."""
        return self.status in ("FAILED", "CANCELLED")


def clusters_in(records: Any) -> dict[str, Cluster]:
    """Return the clusters of an answer of `/status` by name; `ProviderAway` where it is no list."""
    found = [
        Cluster(
            str(one["name"]), str(one.get("status")), one.get("cluster_ever_up") is True,
            plain(str(one.get("init_status_reason") or "")),
        )
        for one in _rows(records, "clusters")
    ]  # fmt: skip
    return {one.name: one for one in found}


def launches_in(requests: Any) -> dict[str, Launch]:
    """Return the last launch of each cluster, by an answer of `/api/status`, which has the newest first.

    Raises `ProviderAway` where it is no list of requests.
    """
    found: dict[str, Launch] = {}
    for one in _rows(requests, "requests"):
        if one["name"] == LAUNCH and one.get("cluster_name"):
            launch = Launch(str(one.get("request_id")), str(one.get("status")))
            found.setdefault(str(one["cluster_name"]), launch)
    return found


def active_in(requests: Any) -> list[str]:
    """Return the ids of the launches in an answer of `/api/status` that go on; raises likewise."""
    return [
        str(one.get("request_id"))
        for one in _rows(requests, "requests")
        if one["name"] == LAUNCH and one.get("status") in ACTIVE
    ]


def _rows(answer: Any, what: str) -> list[dict[str, Any]]:
    """Return a list of things with names: any other answer is none, and never an empty list."""
    if isinstance(answer, list) and all(isinstance(one, dict) and one.get("name") for one in answer):
        return answer
    raise ProviderAway(
        expected=f"a list of {what}", got=type(answer).__name__ + " of another shape",
        where="an answer of SkyPilot's server", now="See that the URL is SkyPilot's own, and its version.",
    )  # fmt: skip


def needs_job(cluster: Cluster | None, launch: Launch) -> bool:
    """Tell whether the state hangs on the cluster's job, which has to be asked for."""
    return cluster is not None and cluster.status == "UP" and not launch.goes_on


def state_of(cluster: Cluster | None, launch: Launch, job: str | None) -> MachineStatus:
    """Return a machine's state; `job` is the last job's status, "" for no job, None for not known."""
    if launch.goes_on and (cluster is None or cluster.status in ("INIT", "UP")):
        return MachineStatus("running", "it is being launched")
    if cluster is None:
        return MachineStatus("ended", f"launch {launch.status}") if launch.status else MachineStatus("gone")
    if cluster.status == "INIT":
        if not cluster.was_up or launch.broke_off:
            return MachineStatus("ended", f"its launch was broken off: {cluster.reason}")
        return MachineStatus("running", f"SkyPilot cannot reach it: {cluster.reason}")
    if cluster.status != "UP":
        return MachineStatus("ended", cluster.status)
    if job is None:
        return MachineStatus("running", "its job cannot be asked for")
    if job in JOB_ACTIVE:
        return MachineStatus("running", f"job {job}")
    return MachineStatus("ended", f"job {job or 'never came'}")
