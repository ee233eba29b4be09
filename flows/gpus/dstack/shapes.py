"""Write answers in the shapes of dstack's server, and refuse bodies in shapes it refuses; pure.

The fields are those of its models at 0.22.5. A run's answer repeats the spec, so that whatever stands in one
can be read by everybody in the project.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from flows.gpus.dstack.simulated_account import Fleet, Refusal, Run

_EXTRA = "Extra inputs are not permitted"
_SPECS = frozenset({"run_name", "repo_id", "repo_data", "profile", "ssh_key_pub", "configuration_path"})
_TASK = frozenset({
    "type", "name", "image", "user", "privileged", "entrypoint", "working_dir", "home_dir", "registry_auth",
    "env", "shell", "resources", "priority", "volumes", "docker", "files", "repos", "nodes", "groups",
    "ports", "commands", "backends", "regions", "availability_zones", "instance_types", "reservation",
    "spot_policy", "retry", "max_duration", "stop_duration", "max_price", "creation_policy", "idle_duration",
    "utilization_policy", "startup_order", "stop_criteria", "schedule", "fleets", "instances", "tags",
    "backend_options",
})  # fmt: skip
_FLEET = frozenset({
    "type", "name", "placement", "blocks", "nodes", "reservation", "resources", "backends", "regions",
    "availability_zones", "instance_types", "spot_policy", "retry", "max_price", "idle_duration", "tags",
    "backend_options", "ssh_config", "env",
})  # fmt: skip
_BODIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "users/get_my_user": ((), ()),
    "runs/list": ((), ("project_name", "repo_id", "username", "only_active", "include_jobs", "limit",
                       "ascending", "job_submissions_limit", "prev_submitted_at", "prev_run_id")),
    "runs/get_plan": (("run_spec",), ("max_offers", "reverse_offers", "full_offers", "unallocated_resources",
                                      "for_offers_only")),
    "runs/apply": (("plan", "force"), ()),
    "runs/get": ((), ("run_name", "id")),
    "runs/stop": (("runs_names", "abort"), ()),
    "fleets/list": ((), ("include_imported",)),
    "fleets/get": ((), ("name", "id")),
    "fleets/apply": (("plan", "force"), ()),
    "fleets/delete": (("names",), ()),
    "secrets/list": ((), ()),
    "secrets/create_or_update": (("name", "value"), ()),
    "secrets/delete": (("secrets_names",), ()),
    "logs/poll": (("run_name", "job_submission_id"), ("start_time", "end_time", "descending", "next_token",
                                                      "limit", "diagnose")),
}  # fmt: skip
"""What each body must have, and what it may have; everything else is refused."""


@dataclass(frozen=True, slots=True)
class Row:
    """Describe one offer of the simulated sellers; dollars an hour."""

    backend: str
    region: str
    instance: str
    gpu: str
    memory_mib: int
    price: float
    spot: bool = False
    count: int = 1


ROWS = (
    Row("runpod", "EU-RO-1", "NVIDIA GeForce RTX 4090", "RTX4090", 24576, 0.69),
    Row("runpod", "EU-RO-1", "NVIDIA GeForce RTX 4090", "RTX4090", 24576, 0.34, spot=True),
    Row("runpod", "CA-MTL-1", "NVIDIA RTX A6000", "A6000", 49152, 0.49),
    Row("runpod", "US-KS-2", "NVIDIA A100 80GB PCIe", "A100", 81920, 1.64),
    Row("runpod", "US-KS-2", "NVIDIA A100 80GB PCIe", "A100", 81920, 0.0, spot=True),
    Row("aws", "us-east-1", "g4dn.xlarge", "T4", 16384, 0.526),
)


def require(name: str, body: Any) -> None:
    """Refuse a body that the real server could not read, as it does: with what was sent, in `input`.

    Raises:
        Refusal: HTTP 422.
    """
    must, may = _BODIES[name]
    problems = _problems(body, frozenset(must), frozenset(may), ("body",))
    spec = body.get("run_spec") or (body.get("plan") or {}).get("run_spec")
    if spec is not None:
        problems += _problems(spec, frozenset({"configuration"}), _SPECS, ("body", "run_spec"))
        configuration = spec.get("configuration", {})
        problems += _problems(
            configuration, frozenset({"type"}), _TASK, ("body", "run_spec", "configuration", "task")
        )
    fleet = (body.get("plan") or {}).get("spec")
    if fleet is not None:
        problems += _problems(
            fleet["configuration"], frozenset(), _FLEET, ("body", "plan", "spec", "configuration")
        )
    if problems:
        raise Refusal(422, problems)


def user(token: str) -> dict[str, Any]:
    """Return the user, with the secrets that the real answer holds as well."""
    return {
        "id": str(uuid.uuid4()), "username": "admin", "created_at": None, "global_role": "admin",
        "email": None, "active": True, "permissions": {"can_create_projects": True},
        "ssh_public_key": "ssh-rsa AA", "creds": {"token": token}, "ssh_private_key": "-----BEGIN",
    }  # fmt: skip


def offer(row: Row, availability: str) -> dict[str, Any]:
    """Return one offer of a plan."""
    card = {"name": row.gpu, "memory_mib": row.memory_mib, "vendor": "nvidia"}
    resources = {
        "cpus": 8, "memory_mib": 32768, "gpus": [card] * row.count, "spot": row.spot,
        "disk": {"size_mib": 102400}, "cpu_arch": "x86", "description": "",
    }  # fmt: skip
    return {
        "backend": row.backend, "instance": {"name": row.instance, "resources": resources},
        "region": row.region, "price": row.price, "backend_data": {}, "availability": availability,
        "availability_zones": None, "instance_runtime": "shim", "blocks": 1, "total_blocks": 1,
    }  # fmt: skip


def plan(project: str, spec: dict[str, Any], offers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer of `runs/get_plan`."""
    most = max((one["price"] for one in offers), default=None)
    job: dict[str, Any] = {"job_spec": {}, "offers": offers, "total_offers": len(offers), "max_price": most}
    return {
        "project_name": project, "user": "admin", "run_spec": spec, "effective_run_spec": spec,
        "job_plans": [job], "current_resource": None, "action": "create",
    }  # fmt: skip


def run(run: Run, project: str, *, jobs: bool = True) -> dict[str, Any]:
    """Return a run; without jobs it tells nothing of why it ended."""
    moment = run.submitted.isoformat()
    submission = {
        "id": run.job_id, "submission_num": 0, "deployment_num": 0, "submitted_at": moment,
        "last_processed_at": moment, "finished_at": None, "inactivity_secs": None,
        "job_provisioning_data": None,
        "status": run.status, "status_message": run.status, "termination_reason": run.job_reason,
        "termination_reason_message": run.message, "exit_status": run.exit_status,
        "job_runtime_data": None, "error": None, "probes": [], "image_pull_progress": None,
    }  # fmt: skip
    job: dict[str, Any] = {"job_spec": {}, "job_submissions": [submission], "job_connection_info": None}
    return {
        "id": run.run_id, "project_name": project, "user": "admin", "fleet": None, "submitted_at": moment,
        "last_processed_at": moment, "status": run.status, "status_message": run.status,
        "termination_reason": run.reason, "run_spec": run.spec, "jobs": [job] if jobs else [],
        "latest_job_submission": submission if jobs else None, "cost": 0.0, "service": None,
        "deployment_num": 0, "error": None, "deleted": False, "next_triggered_at": None,
    }  # fmt: skip


def fleet(fleet: Fleet, run: Run | None, project: str) -> dict[str, Any]:
    """Return a fleet with the instance that its run has, if any."""
    instances = []
    if run is not None and run.costs:
        instances = [
            {"id": str(uuid.uuid4()), "name": f"{fleet.name}-0", "instance_num": 0, "status": run.instance}
        ]
    return {
        "id": str(uuid.uuid4()), "name": fleet.name, "project_name": project, "spec": fleet.spec,
        "created_at": fleet.created.isoformat(), "status": fleet.status, "status_message": None,
        "instances": instances,
    }  # fmt: skip


def secret(name: str) -> dict[str, Any]:
    """Return a secret as lists show it: without its value."""
    return {"id": str(uuid.uuid4()), "name": name, "value": None}


def _problems(
    body: Any, must: frozenset[str], may: frozenset[str], where: tuple[str, ...]
) -> list[dict[str, Any]]:
    missing = [
        {"type": "missing", "loc": [*where, name], "msg": "Field required", "input": body}
        for name in sorted(must - set(body))
    ]
    extra = [
        {"type": "extra_forbidden", "loc": [*where, name], "msg": _EXTRA, "input": body[name]}
        for name in sorted(set(body) - must - may)
    ]  # fmt: skip
    return missing + extra
