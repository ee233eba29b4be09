"""Be ModelArts over HTTP, as Huawei Cloud's SDK speaks to it: paths, signatures, fields, errors.

Paths, fields and the signature (SDK-HMAC-SHA256) are those the SDK sends; error codes those of ModelArts' and
the API gateway's pages.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from flows.gpus.sdk.simulator import Reply, Request, SellerSimulator, SimulatedJob

ALGORITHM = "SDK-HMAC-SHA256"
PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
FLAVORS: tuple[Mapping[str, Any], ...] = (
    {
        "flavor_id": "modelarts.vm.gpu.t4u8", "flavor_name": "GPU: 1*T4(16GB)", "flavor_type": "GPU",
        "billing": {"code": "modelarts.vm.gpu.t4u8", "unit_num": 1},
        "flavor_info": {
            "cpu": {"arch": "x86", "core_num": 8},
            "gpu": {"unit_num": 1, "product_name": "NVIDIA-T4", "memory": "16GB"},
            "memory": {"size": 32, "unit": "GB"},
        },
    },
    {
        "flavor_id": "modelarts.p3.large.public", "flavor_name": "GPU: 1*V100(32GB)", "flavor_type": "GPU",
        "billing": {"code": "modelarts.vm.gpu.v100", "unit_num": 1},
        "flavor_info": {
            "cpu": {"arch": "x86", "core_num": 8},
            "gpu": {"unit_num": 1, "product_name": "NVIDIA-V100", "memory": "32GB"},
            "memory": {"size": 64, "unit": "GB"},
        },
    },
)  # fmt: skip
_JOBS, _SEARCHES, _FLAVORS = "training-jobs", "training-job-searches", "training-job-flavors"
_JOB = re.compile(rf"{_JOBS}/([^/]+)(?:/(actions|tasks/[^/]+/logs/preview))?")
_MOST_ON_PAGE = 50
_NO_END = timedelta(days=365)


class ModelArtsSimulator(SellerSimulator):
    """Hold one project of one account; `flavors` is what it rents."""

    live = frozenset({"Creating", "Pending", "Running"})
    stopping, stopped = "Terminating", "Terminated"
    flavors: tuple[Mapping[str, Any], ...] = FLAVORS

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        project, _, rest = request.path.removeprefix("/v2/").partition("/")
        if project != PROJECT:
            return _no(403, "ModelArts.0210", "The project id in the request URL does not match the token.")
        if rest == _FLAVORS:
            return Reply(200, {"total_count": len(self.flavors), "flavors": list(self.flavors)})
        if rest == _SEARCHES:
            return self._search(request.document)
        if rest == _JOBS:
            return self._create(request.document)
        found = _JOB.fullmatch(rest)
        if found is None:
            return _no(
                404, "APIGW.0101", "The API does not exist or has not been published in the environment"
            )
        job = self.jobs.get(found.group(1))
        if job is None:
            return _no(400, "ModelArts.2775", f"Training job (ID: {found.group(1)}) not found.")
        return self._of_job(job, request, found.group(2) or "")

    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a job."""
        return request.method == "POST" and request.path.endswith(f"/{_JOBS}")

    def is_signed(self, request: Request) -> bool:
        """Tell whether a request is signed with the key."""
        return request.headers.get("authorization", "") == _authorization(request, *self.key)

    def key_refused(self, request: Request) -> Reply:
        """Name the key as unknown, or the signature as wrong."""
        given = request.headers.get("authorization", "")
        why = "verify aksk signature fail"
        if self.has("wrong-token") or f"Access={self.key[0]}," not in given:
            found = re.search(r"Access=([^,]*)", given)
            why = f"Get secretKey failed,ak:{found.group(1) if found else ''},err:ak not exist"
        return _no(401, "APIGW.0301", f"Incorrect IAM authentication information: {why}")

    def throttled(self) -> Reply:
        """Return what too many calls get."""
        return _no(429, "APIGW.0308", "The throttling threshold has been reached: policy user over ratelimit")

    def unavailable(self) -> Reply:
        """Return what a bad day gives."""
        return _no(503, "ModelArts.4700", "Unavailable gateway.")

    def _create(self, asked: dict[str, Any]) -> Reply:
        algorithm, spec = asked.get("algorithm") or {}, asked.get("spec") or {}
        name = (asked.get("metadata") or {}).get("name", "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            return _no(400, "ModelArts.2788", "Invalid parameter(name).")
        if not algorithm.get("command") or not (algorithm.get("engine") or {}).get("image_url"):
            return _no(400, "ModelArts.2806", "Custom image jobs command and engine.url cannot be empty.")
        if (spec.get("resource") or {}).get("flavor_id") not in {one["flavor_id"] for one in self.flavors}:
            return _no(400, "ModelArts.2763", "The selected flavor is invalid.")
        if any(job.name == name for job in self.jobs.values()):
            return _no(400, "ModelArts.2751", f"Duplicate training job (name {name}).")
        if self.has("no-capacity"):
            return _no(400, "ModelArts.0118", "The expected GPU exceeds the quota limit.")
        hours = (spec.get("auto_stop") or {}).get("duration")
        began = self.clock()
        job = SimulatedJob(
            str(uuid.uuid4()), name, "Running", began, began + (timedelta(hours=hours) if hours else _NO_END),
            algorithm.get("environments") or {}, asked,
        )  # fmt: skip
        self.jobs[job.job_id] = job
        return Reply(201, _item(job))

    def _search(self, asked: dict[str, Any]) -> Reply:
        size, page = int(asked.get("limit") or 10), int(asked.get("offset") or 0)
        if not 1 <= size <= _MOST_ON_PAGE:
            return _no(400, "ModelArts.2764", "Invalid query parameter (limit).")
        found = [job for job in self.listed() if all(_passes(job, one) for one in asked.get("filters") or ())]
        items = [_item(job) for job in found]
        shown = items if asked.get("order") == "asc" else items[::-1]
        return Reply(
            200,
            {
                "total": len(self.jobs), "count": len(found), "limit": size, "offset": page,
                "items": shown[page * size : (page + 1) * size],
            },
        )  # fmt: skip

    def _of_job(self, job: SimulatedJob, request: Request, what: str) -> Reply:
        if what == "actions":
            if request.document.get("action_type") != "terminate":
                return _no(400, "ModelArts.2812", "Unsupported action type")
            if job.state not in self.live:
                return _no(409, "ModelArts.2796", "The job cannot be terminated.")
            self.stop(job)
            return Reply(202, _item(job))
        if what:
            content = "\n".join(job.log)
            size = len(content.encode())
            return Reply(200, {"content": content, "current_size": size, "full_size": size})
        if request.method == "DELETE":
            del self.jobs[job.job_id]
            return Reply(202)
        return Reply(200, _item(job))


def _item(job: SimulatedJob) -> dict[str, Any]:
    return {
        "kind": "job",
        "metadata": {
            "id": job.job_id, "name": job.name, "workspace_id": "0",
            "create_time": int(job.began.timestamp() * 1000), "user_name": "trainer",
        },
        "status": {"phase": job.state, "secondary_phase": job.state, "duration": 0, "tasks": ["worker-0"]},
        "algorithm": job.asked["algorithm"],
        "spec": job.asked["spec"],
    }  # fmt: skip


def _passes(job: SimulatedJob, wanted: Mapping[str, Any]) -> bool:
    value = {"name": job.name, "phase": job.state}.get(str(wanted["key"]))
    if value is None:
        return True
    if wanted["operator"] == "like":
        return any(part in value for part in wanted["value"])
    return value in wanted["value"]


def _no(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"error_code": code, "error_msg": message, "request_id": uuid.uuid4().hex})


def _authorization(request: Request, access_id: str, secret: str) -> str:
    given = re.search(r"SignedHeaders=([^,]*)", request.headers.get("authorization", ""))
    signed = given.group(1).split(";") if given else []
    path = "/".join(quote(part, safe="~") for part in unquote(request.path).split("/")).rstrip("/") + "/"
    pairs = sorted(parse_qsl(request.raw_query, keep_blank_values=True))
    query = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs)
    headers = "".join(f"{name}:{request.headers.get(name, '').strip()}\n" for name in signed)
    digest = hashlib.sha256(request.body).hexdigest()
    canonical = "\n".join([request.method, path, query, headers, ";".join(signed), digest])
    told = "\n".join(
        [ALGORITHM, request.headers.get("x-sdk-date", ""), hashlib.sha256(canonical.encode()).hexdigest()]
    )
    signature = hmac.new(secret.encode(), told.encode(), hashlib.sha256).hexdigest()
    return f"{ALGORITHM} Access={access_id}, SignedHeaders={';'.join(signed)}, Signature={signature}"
