"""Say what SkyPilot is to start for a lease; pure.

The task is written as JSON, which is YAML. The claim goes as one of the task's `secrets`: SkyPilot hides
those in its pages and logs. They lie in its server's database all the same, for as long as it keeps requests.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from fleet_contracts.training import Lease
from flows.gpus.settings import SkypilotSection
from flows.gpus.skypilot.catalog import Wanted
from flows.gpus.starting import CLAIM, UNTIL, Start

LABEL = "whetstone"
"""By it a machine is found in its cloud's own console, where clouds shorten the cluster's name."""
_SECRET = frozenset({CLAIM})
_FORBIDDABLE = ("aws", "azure", "gcp", "kubernetes", "nebius", "oci", "slurm", "ssh", "vast")
"""Clouds whose keys SkyPilot's settings can keep off machines; those of all others it copies."""
_ROLES = frozenset({"aws", "azure", "gcp"})
"""Clouds where a machine ends itself by a role of its own, and needs no key."""
_PAST_END = 60
"""Seconds the trainer has to end after its time, before it is killed."""


def launch_body(lease: Lease, start: Start, name: str, section: SkypilotSection) -> dict[str, Any]:
    """Return the body of `POST /launch`; it holds the claim."""
    wanted = Wanted.of(lease.offer.offer_id)
    task = {
        "name": name,
        "num_nodes": 1,
        "resources": _resources(lease, start.image, name, section),
        "envs": {key: value for key, value in start.environment.items() if key not in _SECRET},
        "secrets": {key: value for key, value in start.environment.items() if key in _SECRET},
        "run": script(start.command),
    }
    return {
        "task": json.dumps(task),
        "cluster_name": name,
        "retry_until_up": False,
        "quiet_optimizer": True,
        "override_skypilot_config": identities(wanted.cloud),
    }


def script(command: tuple[str, ...]) -> str:
    """Return the job's script: the trainer, killed a minute after its time should it hang.

    SkyPilot ends a machine when its job has ended and not before: a trainer that hangs would hold it.
    """
    # `timeout` takes 0 for no limit at all, and a lease may be over by now.
    left = f'"$(( (left = $(date -d "${UNTIL}" +%s) - $(date +%s)) > 0 ? left : 1 ))"'
    return f"exec timeout --kill-after={_PAST_END} {left} {shlex.join(command)}"


def identities(cloud: str) -> dict[str, dict[str, str]]:
    """Return what a cloud's machines may hold of our accounts: enough to end themselves, no other's key."""
    own = "SERVICE_ACCOUNT" if cloud in _ROLES else "LOCAL_CREDENTIALS"
    return {one: {"remote_identity": own if one == cloud else "NO_UPLOAD"} for one in _FORBIDDABLE}


def _resources(lease: Lease, image: str, name: str, section: SkypilotSection) -> dict[str, Any]:
    wanted = Wanted.of(lease.offer.offer_id)
    found: dict[str, Any] = {
        "infra": f"{wanted.cloud}/{wanted.region}",
        "accelerators": wanted.accelerators,
        "use_spot": lease.spot,
        "image_id": f"docker:{image}",
        # `wait_for: jobs`: somebody's forgotten SSH session must not hold the machine.
        "autostop": {"idle_minutes": section.idle_minutes, "down": True, "wait_for": "jobs"},
        "labels": {LABEL: name},
    }
    if wanted.instance:
        found["instance_type"] = wanted.instance
    if lease.price_cap > 0.0:
        found["max_hourly_cost"] = lease.price_cap
    return found
