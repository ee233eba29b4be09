"""Be PAI-DLC over HTTP, as Alibaba Cloud's SDK speaks to it: paths, signatures, fields, errors.

Paths, fields and the signature (ACS3-HMAC-SHA256) are those the SDK sends; the common errors those of Alibaba
Cloud's API pages. The codes for a job that is not there and for a stop that comes too late are made up: only
their HTTP status is looked at.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, quote

from flows.gpus.sdk.simulator import Reply, Request, SellerSimulator, SimulatedJob

ALGORITHM = "ACS3-HMAC-SHA256"
WORKSPACE = "12345"
SPECS: tuple[Mapping[str, Any], ...] = (
    {
        "InstanceType": "ecs.gn7i-c8g1.2xlarge", "AcceleratorType": "GPU", "Cpu": 8, "Memory": 30, "Gpu": 1,
        "GpuType": "NVIDIA A10", "GpuMemory": 24, "IsAvailable": True, "ResourceType": "ECS",
        "SpotStockStatus": "WithStock", "NonProtectSpotDiscount": 0.3,
    },
    {
        "InstanceType": "ecs.gn6i-c4g1.xlarge", "AcceleratorType": "GPU", "Cpu": 4, "Memory": 15, "Gpu": 1,
        "GpuType": "NVIDIA T4", "GpuMemory": 16, "IsAvailable": True, "ResourceType": "ECS",
        "SpotStockStatus": "NoStock",
    },
)  # fmt: skip
_JOB = re.compile(r"/api/v1/jobs/([^/]+)(?:/(stop|pods/[^/]+/logs))?")
_REQUIRED = ("DisplayName", "JobType", "JobSpecs", "UserCommand", "WorkspaceId")
_NO_END = timedelta(days=365)


class PaiDlcSimulator(SellerSimulator):
    """Hold one workspace of one account; `specs` is what `ListEcsSpecs` returns."""

    live = frozenset({"Creating", "Queuing", "EnvPreparing", "Running"})
    kept = frozenset({"SucceededReserving", "FailedReserving"})
    stopping, stopped = "Stopping", "Stopped"
    specs: tuple[Mapping[str, Any], ...] = SPECS

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        if request.path == "/api/v1/jobs":
            return self._create(request) if request.method == "POST" else self._list(request.query)
        if request.path == "/api/v1/ecsspecs":
            return _page("EcsSpecs", list(self.specs), request.query)
        found = _JOB.fullmatch(request.path)
        if found is None:
            return _no(404, "InvalidApi.NotFound", "Specified api is not found.")
        job = self.jobs.get(found.group(1))
        if job is None:
            return _no(404, "JobNotFound", f"job {found.group(1)} not found")
        return self._of_job(job, found.group(2) or "", request.query)

    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a job."""
        return request.method == "POST" and request.path == "/api/v1/jobs"

    def is_signed(self, request: Request) -> bool:
        """Tell whether a request is signed with the key."""
        return request.headers.get("authorization", "") == _authorization(request, *self.key)

    def key_refused(self, request: Request) -> Reply:
        """Name the key as unknown, or the signature as wrong with all that should have been signed."""
        if f"Credential={self.key[0]}," in request.headers.get("authorization", "") and not self.has(
            "wrong-token"
        ):
            told = "Specified signature is not matched with our calculation. server canonicalRequest is:"
            return _no(400, "SignatureDoesNotMatch", told + _canonical(request))
        return _no(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")

    def throttled(self) -> Reply:
        """Return what too many calls of one user get."""
        return _no(429, "Throttling.User", "Request was denied due to user flow control.")

    def unavailable(self) -> Reply:
        """Return what a bad day gives."""
        return _no(503, "ServiceUnavailable", "The request has failed due to a temporary failure.")

    def _create(self, request: Request) -> Reply:
        asked = request.document
        lacking = [name for name in _REQUIRED if not asked.get(name)]
        if lacking:
            return _no(400, "InvalidParameter", f"{lacking[0]} is required")
        role = asked["JobSpecs"][0]
        if asked["WorkspaceId"] != WORKSPACE:
            return _no(403, "Forbidden", "You are not a member of the workspace.")
        known = {spec["InstanceType"] for spec in self.specs}
        if not asked.get("ResourceId") and role.get("EcsSpec") not in known:
            return _no(400, "InvalidParameter", f"EcsSpec {role.get('EcsSpec')} is not supported")
        spot = role.get("SpotSpec") or {}
        if "SpotPriceLimit" in spot and "SpotDiscountLimit" in spot:
            return _no(400, "InvalidParameter", "Specify only one of SpotDiscountLimit and SpotPriceLimit.")
        if self.has("no-capacity"):
            return _no(403, "OperationDenied.NoStock", "The requested resource is sold out in the region.")
        job_id = f"dlc{uuid.uuid4().hex[:16]}"
        minutes = asked.get("JobMaxRunningTimeMinutes")
        longest = timedelta(minutes=minutes) if minutes else _NO_END
        began = self.clock()
        self.jobs[job_id] = SimulatedJob(
            job_id, asked["DisplayName"], "Running", began, began + longest, asked.get("Envs") or {}, asked
        )
        return _yes({"JobId": job_id})

    def _list(self, query: dict[str, str]) -> Reply:
        since = self.clock() - timedelta(days=7)
        if "StartTime" in query:
            since = datetime.strptime(query["StartTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        named = query.get("DisplayName", "").lower()
        found = [
            job
            for job in self.listed()
            if job.asked["WorkspaceId"] == query.get("WorkspaceId")
            and job.began >= since
            and named in job.name.lower()
        ]
        newest_first = query.get("Order", "desc") == "desc"
        items = [_item(job) for job in (reversed(found) if newest_first else found)]
        return _page("Jobs", items, query)

    def _of_job(self, job: SimulatedJob, what: str, query: dict[str, str]) -> Reply:
        if not what:
            return _yes({**_item(job), "Envs": job.environment})
        if what == "stop":
            if job.state not in self.live | self.kept:
                return _no(400, "JobStatusNotAllowed", f"job is {job.state}")
            self.stop(job)
            return _yes({"JobId": job.job_id})
        return _yes({"JobId": job.job_id, "Logs": job.log[-int(query.get("MaxLines") or 2000) :]})


def _item(job: SimulatedJob) -> dict[str, Any]:
    return {
        "JobId": job.job_id,
        "DisplayName": job.name,
        "Status": job.state,
        "WorkspaceId": job.asked["WorkspaceId"],
        "JobMaxRunningTimeMinutes": job.asked.get("JobMaxRunningTimeMinutes"),
        "GmtCreateTime": f"{job.began:%Y-%m-%dT%H:%M:%SZ}",
        "Pods": [{"PodId": f"{job.job_id}-worker-0", "PodUid": job.job_id, "Type": "worker"}],
    }


def _page(name: str, items: list[Any], query: Mapping[str, str]) -> Reply:
    size, number = int(query.get("PageSize") or 10), int(query.get("PageNumber") or 1)
    return _yes({name: items[(number - 1) * size : number * size], "TotalCount": len(items)})


def _yes(document: Mapping[str, Any]) -> Reply:
    return Reply(200, {"RequestId": str(uuid.uuid4()).upper(), **document})


def _no(status: int, code: str, message: str) -> Reply:
    request_id = str(uuid.uuid4()).upper()
    return Reply(status, {"RequestId": request_id, "Code": code, "Message": message, "HostId": "pai-dlc"})


def _canonical(request: Request) -> str:
    signed = _signed_headers(request)
    pairs = sorted(parse_qsl(request.raw_query, keep_blank_values=True))
    query = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs)
    headers = "".join(f"{name}:{request.headers.get(name, '').strip()}\n" for name in signed)
    digest = hashlib.sha256(request.body).hexdigest()
    return "\n".join([request.method, request.path, query, headers, ";".join(signed), digest])


def _signed_headers(request: Request) -> list[str]:
    found = re.search(r"SignedHeaders=([^,]*)", request.headers.get("authorization", ""))
    return found.group(1).split(";") if found else []


def _authorization(request: Request, access_id: str, secret: str) -> str:
    told = f"{ALGORITHM}\n{hashlib.sha256(_canonical(request).encode()).hexdigest()}"
    signature = hmac.new(secret.encode(), told.encode(), hashlib.sha256).hexdigest()
    signed = ";".join(_signed_headers(request))
    return f"{ALGORITHM} Credential={access_id},SignedHeaders={signed},Signature={signature}"
