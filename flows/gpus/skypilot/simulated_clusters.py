"""Be what a SkyPilot server knows and what its clouds really run: clusters, requests, and time that passes.

Clusters end as real ones do: the program ends at `WHETSTONE_UNTIL` at the latest, and the autostop that
was asked for ends the cluster its idle minutes later. Nothing is executed.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fleet_contracts import utc_now
from flows.gpus.skypilot.answers import NO_CLUSTER
from flows.gpus.skypilot.states import LAUNCH
from flows.gpus.starting import UNTIL

CATALOG: dict[str, list[list[Any]]] = {
    "A10": [
        ["Lambda", "gpu_1x_a10", "A10", 1.0, 30.0, 24.0, 200.0, 0.75, None, "us-east-1"],
        ["Lambda", "gpu_1x_a10", "A10", 1.0, 30.0, 24.0, 200.0, 0.75, None, "us-west-1"],
    ],
    "A100-80GB": [
        ["RunPod", "1x_A100-80GB_SECURE", "A100-80GB", 1.0, 16.0, 80.0, 117.0, 1.39, 1.39, "US"],
    ],
    "RTX4090": [["RunPod", "1x_RTX4090_SECURE", "RTX4090", 1.0, 16.0, 24.0, 62.0, 0.69, 0.0, "US"]],
}
NO_SPOT = frozenset({"lambda"})
_CONFIGURABLE = frozenset({"aws", "azure", "gcp", "kubernetes", "nebius", "oci", "slurm", "ssh", "vast"})


class Failed(Exception):
    """Have a request fail with a type and text as the real server's."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


@dataclass
class SimulatedCluster:
    """Hold one cluster: how it was asked for, and what runs on it."""

    name: str
    task: dict[str, Any]
    status: str = "INIT"
    was_up: bool = False
    job: str = ""
    jobs: int = 0
    idle_since: datetime | None = None
    output: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of its program."""
        return {**self.task.get("envs", {}), **self.task.get("secrets", {})}

    def record(self) -> dict[str, Any]:
        """Return it as `/status` shows it."""
        resources = self.task.get("resources", {})
        shown = {
            "name": self.name, "status": self.status, "is_managed": False, "user_hash": "fcd1e5cf",
            "autostop": 2 if self.job else -1, "to_down": bool(self.job), "user_name": "root",
            "workspace": "default", "nodes": 1, "labels": resources.get("labels", {}), "last_use": "",
            "resources_str": f"1x({resources.get('accelerators')}, {resources.get('instance_type')})",
        }  # fmt: skip
        return {**shown, "cluster_ever_up": self.was_up}


@dataclass
class SimulatedRequest:
    """Hold one request: it is carried out when its time has come, and somebody looks."""

    name: str
    work: Callable[[], Any]
    cluster_name: str | None = None
    seconds: float = 0.0
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    began: float = field(default_factory=time.monotonic)
    status: str = "RUNNING"
    value: Any = None
    error: Failed | None = None

    def advance(self) -> None:
        """Carry it out if its time has come."""
        if self.status != "RUNNING" or time.monotonic() < self.began + self.seconds:
            return
        try:
            self.value = self.work()
            self.status = "SUCCEEDED"
        except Failed as error:
            self.error = error
            self.status = "FAILED"

    def payload(self) -> dict[str, Any]:
        """Return it as `/api/get` shows it."""
        error = self.error and {"object": "", "type": self.error.kind, "message": self.error.message}
        return {
            "request_id": self.request_id, "name": self.name, "entrypoint": "", "request_body": "",
            "status": self.status, "created_at": self.began, "user_id": "fcd1e5cf", "pid": None,
            "return_value": json.dumps(self.value), "error": json.dumps(error), "schedule_type": "short",
            "cluster_name": self.cluster_name, "should_retry": False,
        }  # fmt: skip


class SimulatedClusters:
    """Be the server's memory and its clouds."""

    def __init__(self) -> None:
        self.clusters: dict[str, SimulatedCluster] = {}
        self.requests: list[SimulatedRequest] = []
        self.catalog = CATALOG
        self.enabled = ["lambda", "runpod"]
        self.boot_seconds = 0.0
        self.has_capacity = True
        self.leaves_half = False
        """Whether a launch that fails leaves its cluster behind."""
        self.refused = 0
        """How many launches found no capacity."""
        self.passed = timedelta(0)

    def now(self) -> datetime:
        """Return the cloud's clock."""
        return utc_now() + self.passed

    def add(self, request: SimulatedRequest) -> SimulatedRequest:
        """Take a request in."""
        self.requests.append(request)
        self.settle()
        return request

    def settle(self) -> None:
        """Let happen what is due."""
        for request in self.requests:
            request.advance()
        for cluster in list(self.clusters.values()):
            self._end_if_due(cluster)

    def launch(self, body: dict[str, Any]) -> SimulatedRequest:
        """Begin a launch; its cluster is there from now on, unless it is refused at once."""
        task, name = json.loads(body["task"]), str(body["cluster_name"])

        def up() -> dict[str, Any]:
            try:
                self._check(task, body.get("override_skypilot_config") or {})
            except Failed:
                if self.leaves_half:
                    self.clusters.setdefault(name, SimulatedCluster(name, task))
                else:
                    self.clusters.pop(name, None)
                raise
            cluster = self.clusters.setdefault(name, SimulatedCluster(name, task))
            cluster.status, cluster.was_up, cluster.job = "UP", True, "RUNNING"
            cluster.jobs += 1
            return {"job_id": cluster.jobs, "handle": ""}

        if self.boot_seconds:
            self.clusters.setdefault(name, SimulatedCluster(name, task))
        return self.add(SimulatedRequest(LAUNCH, up, name, self.boot_seconds))

    def down(self, name: str) -> None:
        """End a cluster."""
        if self.clusters.pop(name, None) is None:
            raise Failed(NO_CLUSTER, f"\x1b[33mCluster {name!r} does not exist.\x1b[0m")

    def cancel(self, request_ids: list[str]) -> list[str]:
        """Cancel requests that go on; what they have made stays."""
        hit = [one for one in self.requests if one.request_id in request_ids and one.status == "RUNNING"]
        for request in hit:
            request.status = "CANCELLED"
        return [one.request_id for one in hit]

    def finish(self, name: str, job: str = "SUCCEEDED") -> None:
        """End a cluster's program."""
        self.clusters[name].job, self.clusters[name].idle_since = job, self.now()

    def _end_if_due(self, cluster: SimulatedCluster) -> None:
        until = cluster.environment.get(UNTIL)
        if cluster.job == "RUNNING" and until and self.now() >= datetime.fromisoformat(until):
            cluster.job, cluster.idle_since = "FAILED", datetime.fromisoformat(until)
        autostop = cluster.task.get("resources", {}).get("autostop") or {}
        if cluster.idle_since is None or not autostop.get("down"):
            return
        if self.now() >= cluster.idle_since + timedelta(minutes=autostop["idle_minutes"]):
            self.clusters.pop(cluster.name, None)

    def _check(self, task: dict[str, Any], config: dict[str, Any]) -> None:
        """Refuse what the real server refuses, with its types of errors."""
        resources = task["resources"]
        cloud, _, region = resources["infra"].partition("/")
        gpu = resources["accelerators"].partition(":")[0]
        if unknown := set(config) - _CONFIGURABLE:
            raise Failed("InvalidSkyPilotConfigError", f"Invalid config: found unsupported field {unknown}")
        if not self.enabled:
            raise Failed("NoCloudAccessError", "Cloud access is not set up. Run: \x1b[1msky check\x1b[0m")
        if cloud not in self.enabled:
            raise Failed("ResourcesUnavailableError", f"Task requires {cloud} which is not enabled.")
        rows = [row for row in self.catalog.get(gpu, []) if row[0].lower() == cloud and row[9] == region]
        if not rows:
            raise Failed("ValueError", f"Invalid region {region!r}")
        if resources.get("instance_type") not in {None, *(row[1] for row in rows)}:
            raise Failed("ValueError", f"Invalid instance type {resources['instance_type']!r} for {cloud}.")
        if resources.get("use_spot") and cloud in NO_SPOT:
            raise Failed("ResourcesUnavailableError", "Catalog does not contain any instances")
        if not self.has_capacity:
            self.refused += 1
            raise Failed("ResourcesUnavailableError", f"Failed to acquire resources in {region}.")
