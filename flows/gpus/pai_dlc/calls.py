"""Speak to PAI-DLC through Alibaba Cloud's SDK: one method for each call, with time limits and no retries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flows.gpus.errors import ProviderAway
from flows.gpus.pai_dlc.rules import Job, Spec, Wanted, kind_of
from flows.gpus.sdk.calls import CONNECT_SECONDS, READ_SECONDS, CallRefused, Refusal, Seller
from flows.gpus.sdk.keys import KeyPair, read_pair
from flows.gpus.settings import PaiDlcSection
from flows.gpus.tokens import Token

PACKAGE, EXTRA = "alibabacloud_pai_dlc20201203", "pai"
KEYS = ("access_key_id", "access_key_secret")
PAGE = 50
"""Taken from the examples of the seller's pages; the most is not told."""
JOB_TYPE, ROLE = "PyTorchJob", "Worker"
"""Of the types with spot machines, the one that asks nothing of its program."""
RENEW = "Make a new access key in RAM that may use PAI-DLC in this workspace, and put it there; no restart."
T = TypeVar("T")


class PaiCalls:
    """Make calls with the key as it is now."""

    def __init__(self, name: str, section: PaiDlcSection, token: Token) -> None:
        self._name, self._section, self._token = name, section, token

    def key(self) -> KeyPair:
        """Return the key as it is now."""
        return read_pair(self._token, self._section.token, KEYS)

    def create(self, wanted: Wanted) -> str:
        """Create a job and return its id. It is never asked for twice here."""
        from alibabacloud_pai_dlc20201203 import models

        role = models.JobSpec(type=ROLE, pod_count=1, image=wanted.image, restart_policy="Never")
        if wanted.resources is None:
            role.ecs_spec = wanted.spec
        else:
            role.resource_config = models.ResourceConfig(**wanted.resources)
        if wanted.spot is not None:
            role.spot_spec = models.SpotSpec(**wanted.spot)
        request = models.CreateJobRequest(
            display_name=wanted.name,
            workspace_id=self._section.workspace,
            resource_id=self._section.resource or None,
            # A claim stands in the environment, which other members of the workspace must not see.
            accessibility="PRIVATE",
            job_type=JOB_TYPE,
            job_specs=[role],
            envs=wanted.environment,
            user_command=wanted.command,
            job_max_running_time_minutes=wanted.minutes,
        )

        def create(client: Any) -> str:
            return str(_told(client.create_job(request).body.job_id, "the id of the job", "CreateJob"))

        return self._ask("CreateJob", create)

    def job(self, job_id: str) -> Job | None:
        """Return a job, None for one that is not there."""
        from alibabacloud_pai_dlc20201203 import models

        request = models.GetJobRequest(need_detail=True)

        def ask(client: Any) -> Job:
            body = client.get_job(job_id, request).body
            _told(body.status, "the job's status", "GetJob")
            return _job(body, job_id)

        try:
            return self._ask("GetJob", ask)
        except CallRefused as error:
            if error.kind != "gone":
                raise
            return None

    def jobs(self, prefix: str, since: datetime) -> Iterator[Job]:
        """Yield the jobs made since a moment whose name has something like `prefix` in it, oldest first."""
        seen, page = 0, 1
        while True:
            items, total = self._jobs_page(prefix, since, page)
            yield from items
            seen, page = seen + len(items), page + 1
            if not items or seen >= total:
                return

    def stop(self, job_id: str) -> None:
        """Stop a job."""
        self._ask("StopJob", lambda client: client.stop_job(job_id))

    def log_lines(self, job_id: str, pod: str, most: int) -> list[str]:
        """Return the last lines a job's container wrote."""
        from alibabacloud_pai_dlc20201203 import models

        request = models.GetPodLogsRequest(max_lines=most)

        def ask(client: Any) -> list[str]:
            return [str(line) for line in client.get_pod_logs(job_id, pod, request).body.logs or []]

        try:
            return self._ask("GetPodLogs", ask)
        except CallRefused as error:
            if error.kind != "gone":
                raise
            return []

    def specs(self) -> list[Spec]:
        """Return the kinds of machines with a GPU."""
        found: list[Spec] = []
        page = 1
        while True:
            items, total = self._specs_page(page)
            found += items
            page += 1
            if not items or len(found) >= total:
                return found

    def _jobs_page(self, prefix: str, since: datetime, page: int) -> tuple[list[Job], int]:
        from alibabacloud_pai_dlc20201203 import models

        # Oldest first: a job that is made meanwhile lengthens the last page and shifts none.
        request = models.ListJobsRequest(
            workspace_id=self._section.workspace, display_name=prefix, page_number=page, page_size=PAGE,
            start_time=f"{since:%Y-%m-%dT%H:%M:%SZ}", sort_by="GmtCreateTime", order="asc",
        )  # fmt: skip

        def ask(client: Any) -> tuple[list[Job], int]:
            body = client.list_jobs(request).body
            total = int(_told(body.total_count, "how many jobs there are", "ListJobs"))
            return [_job(item, str(item.job_id)) for item in body.jobs or []], total

        return self._ask("ListJobs", ask)

    def _specs_page(self, page: int) -> tuple[list[Spec], int]:
        from alibabacloud_pai_dlc20201203 import models

        request = models.ListEcsSpecsRequest(accelerator_type="GPU", page_number=page, page_size=PAGE)

        def ask(client: Any) -> tuple[list[Spec], int]:
            body = client.list_ecs_specs(request).body
            total = int(_told(body.total_count, "how many kinds there are", "ListEcsSpecs"))
            return [_spec(item) for item in body.ecs_specs or []], total

        return self._ask("ListEcsSpecs", ask)

    def _ask(self, what: str, call: Callable[[Any], T]) -> T:
        """Make a call and read its answer; one that cannot be read is none."""
        pair = self.key()
        client = _client(self._section, pair)
        return self._seller().ask(what, pair, lambda: call(client))

    def _seller(self) -> Seller:
        from Tea.exceptions import TeaException

        # The last four: an answer that is JSON and not what the SDK's models expect.
        errors = (TeaException, AttributeError, KeyError, TypeError, ValueError)
        where = f"PAI-DLC {self._section.region} ({self._name})"
        return Seller(where, self._section.token, RENEW, errors, _read, kind_of)


def _client(section: PaiDlcSection, pair: KeyPair) -> Any:
    from alibabacloud_pai_dlc20201203.client import Client
    from alibabacloud_tea_openapi.utils_models import Config

    # With DEBUG=sdk in the environment it writes every request with its headers, a session's key among them.
    logging.getLogger("darabonba-core").setLevel(logging.CRITICAL)
    config = Config(
        access_key_id=pair.access_id, access_key_secret=pair.secret, security_token=pair.session or None,
        region_id=section.region, connect_timeout=int(CONNECT_SECONDS * 1000),
        read_timeout=int(READ_SECONDS * 1000),
    )  # fmt: skip
    if section.url:
        address = urlsplit(section.url)
        config.endpoint, config.protocol = address.netloc, address.scheme
    return Client(config)


def _read(error: Exception) -> Refusal:
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return Refusal(status, str(getattr(error, "code", "")), str(getattr(error, "message", "")))
    inner = getattr(error, "inner_exception", None) or error
    return Refusal(0, type(inner).__name__, str(getattr(inner, "message", "")))


def _told(value: T | None, what: str, call: str) -> T:
    """Return what an answer has to hold: one without it is no answer of PAI-DLC's."""
    if value is None or value == "":
        raise ProviderAway(expected=what, got="an answer without it", where=f"{call} of PAI-DLC")
    return value


def _job(body: Any, job_id: str) -> Job:
    pods = tuple(str(pod.pod_id) for pod in getattr(body, "pods", None) or [] if pod.pod_id)
    reason = body.reason_message or body.reason_code or ""
    return Job(job_id, str(body.display_name or ""), str(body.status or ""), str(reason), pods)


def _spec(item: Any) -> Spec:
    discount = item.non_protect_spot_discount
    return Spec(
        str(item.instance_type), item.is_available is not False, int(item.cpu or 0), int(item.memory or 0),
        str(item.spot_stock_status or ""), None if discount is None else float(discount),
    )  # fmt: skip
