"""Speak to ModelArts through Huawei Cloud's SDK: one method for each call, with time limits, no retries."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from flows.gpus.errors import ProviderAway
from flows.gpus.modelarts.rules import LISTED, Flavor, Job, Wanted, kind_of
from flows.gpus.sdk.calls import CONNECT_SECONDS, READ_SECONDS, CallRefused, Refusal, Seller
from flows.gpus.sdk.keys import KeyPair, read_pair
from flows.gpus.settings import ModelArtsSection
from flows.gpus.tokens import Token

PACKAGE, EXTRA = "huaweicloudsdkmodelarts", "modelarts"
KEYS = ("access_key", "secret_key")
PAGE = 50
"""As many as one page may hold."""
RENEW = (
    "Make a new access key in IAM that may use ModelArts in this project, and put it there; no restart. Five"
    " refusals in a row lock a key for five minutes."
)
_MIB = {"MB": 1, "GB": 1024, "TB": 1024 * 1024}
T = TypeVar("T")


class ModelArtsCalls:
    """Make calls with the key as it is now."""

    def __init__(self, name: str, section: ModelArtsSection, token: Token) -> None:
        self._name, self._section, self._token = name, section, token
        self._lock = threading.Lock()
        # A client has threads of its own: one is kept, and replaced when the key is.
        self._made: tuple[KeyPair, Any] | None = None

    def key(self) -> KeyPair:
        """Return the key as it is now."""
        return read_pair(self._token, self._section.token, KEYS)

    def create(self, wanted: Wanted) -> str:
        """Create a job and return its id. It is never asked for twice here."""
        from huaweicloudsdkmodelarts import v1 as models

        job = models.Job(
            kind="job",
            metadata=models.JobMetadata(name=wanted.name, workspace_id=self._section.workspace),
            algorithm=models.JobAlgorithm(
                command=wanted.command,
                engine=models.JobEngine(image_url=wanted.image),
                environments=wanted.environment,
            ),
            spec=models.Spec(
                resource=models.SpecResource(flavor_id=wanted.flavor, node_count=1),
                auto_stop=models.AutoStop(time_unit="HOURS", duration=wanted.hours),
            ),
        )
        request = models.CreateTrainingJobRequest(body=job)

        def create(client: Any) -> str:
            made = client.create_training_job(request)
            return str(_told(made.metadata and made.metadata.id, "the id of the job", "CreateTrainingJob"))

        return self._ask("CreateTrainingJob", create)

    def job(self, job_id: str) -> Job | None:
        """Return a job, None for one that is not there."""
        from huaweicloudsdkmodelarts import v1 as models

        request = models.ShowTrainingJobDetailsRequest(training_job_id=job_id)

        def ask(client: Any) -> Job:
            return _job(client.show_training_job_details(request), "ShowTrainingJob")

        try:
            return self._ask("ShowTrainingJob", ask)
        except CallRefused as error:
            if error.kind != "gone":
                raise
            return None

    def jobs(self, prefix: str) -> Iterator[Job]:
        """Yield the jobs that have not ended and whose name has `prefix` in it, oldest first."""
        seen, page = 0, 0
        while True:
            items, count = self._jobs_page(prefix, page)
            yield from items
            seen, page = seen + len(items), page + 1
            if not items or seen >= count:
                return

    def stop(self, job_id: str) -> None:
        """Terminate a job."""
        from huaweicloudsdkmodelarts import v1 as models

        action = models.JobActionType(action_type="terminate")
        request = models.StopTrainingJobRequest(training_job_id=job_id, body=action)
        self._ask("StopTrainingJob", lambda client: client.stop_training_job(request))

    def delete(self, job_id: str) -> None:
        """Delete a job; one that is gone is no error."""
        from huaweicloudsdkmodelarts import v1 as models

        request = models.DeleteTrainingJobRequest(training_job_id=job_id)
        try:
            self._ask("DeleteTrainingJob", lambda client: client.delete_training_job(request))
        except CallRefused as error:
            if error.kind != "gone":
                raise

    def log(self, job_id: str, task: str) -> str:
        """Return what ModelArts shows of a task's output, its last 5 MB at most; "" while there is none."""
        from huaweicloudsdkmodelarts import v1 as models

        request = models.ShowTrainingJobLogsPreviewRequest(training_job_id=job_id, task_id=task)
        try:
            shown = self._ask("ShowLogs", lambda client: client.show_training_job_logs_preview(request))
        except CallRefused as error:
            if error.kind not in ("gone", "conflict"):
                raise
            return ""
        return str(shown.content or "")

    def flavors(self) -> list[Flavor]:
        """Return the kinds of machines with a GPU."""
        from huaweicloudsdkmodelarts import v1 as models

        request = models.ShowTrainingJobFlavorsRequest(flavor_type="GPU")

        def ask(client: Any) -> list[Flavor]:
            found = client.show_training_job_flavors(request)
            _told(found.total_count, "how many flavours there are", "ShowFlavors")
            return [_flavor(item) for item in found.flavors or []]

        return self._ask("ShowFlavors", ask)

    def _jobs_page(self, prefix: str, page: int) -> tuple[list[Job], int]:
        from huaweicloudsdkmodelarts import v1 as models

        searched = models.JobSearches(
            offset=page, limit=PAGE, sort_by="create_time", order="asc", workspace_id=self._section.workspace,
            filters=[
                models.Filter(key="name", operator="like", value=[prefix]),
                models.Filter(key="phase", operator="in", value=list(LISTED)),
            ],
        )  # fmt: skip
        request = models.ListTrainingJobsRequest(body=searched)

        def ask(client: Any) -> tuple[list[Job], int]:
            found = client.list_training_jobs(request)
            count = int(_told(found.count, "how many jobs there are", "ListTrainingJobs"))
            return [_job(item, "ListTrainingJobs") for item in found.items or []], count

        return self._ask("ListTrainingJobs", ask)

    def _ask(self, what: str, call: Callable[[Any], T]) -> T:
        """Make a call and read its answer; one that cannot be read is none."""
        pair = self.key()
        client = self._client(pair)
        return self._seller().ask(what, pair, lambda: call(client))

    def _client(self, pair: KeyPair) -> Any:
        with self._lock:
            if self._made is None or self._made[0] != pair:
                if self._made is not None:
                    self._made[1].close()
                self._made = (pair, _client(self._section, pair))
            return self._made[1]

    def _seller(self) -> Seller:
        from huaweicloudsdkcore.exceptions.exceptions import SdkException
        from requests.exceptions import RequestException

        # A read that takes too long escapes the SDK as it is; the last four are answers that are JSON and
        # not what its models expect.
        errors = (SdkException, RequestException, AttributeError, KeyError, TypeError, ValueError)
        where = f"ModelArts {self._section.region} ({self._name})"
        return Seller(where, self._section.token, RENEW, errors, _read, kind_of)


def _client(section: ModelArtsSection, pair: KeyPair) -> Any:
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.http.http_config import HttpConfig
    from huaweicloudsdkmodelarts.v1 import ModelArtsClient

    # It has no handler, so its complaints would go to standard error; ours say the same.
    logging.getLogger("HuaweiCloud-SDK-ModelArtsClient").setLevel(logging.CRITICAL)
    credentials = BasicCredentials(pair.access_id, pair.secret, section.project_id)
    if pair.session:
        credentials = credentials.with_security_token(pair.session)
    return (
        ModelArtsClient.new_builder()
        .with_http_config(HttpConfig(timeout=(CONNECT_SECONDS, READ_SECONDS), retry_times=0))
        .with_credentials(credentials)
        .with_endpoint(section.url or f"https://modelarts.{section.region}.myhuaweicloud.com")
        .build()
    )


def _read(error: Exception) -> Refusal:
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return Refusal(status, str(getattr(error, "error_code", "")), str(getattr(error, "error_msg", "")))
    return Refusal(0, type(error).__name__, str(getattr(error, "error_msg", "")))


def _told(value: T | None, what: str, call: str) -> T:
    """Return what an answer has to hold: of a page that is no JSON the SDK makes an empty answer."""
    if value is None or value == "":
        raise ProviderAway(expected=what, got="an answer without it", where=f"{call} of ModelArts")
    return value


def _job(found: Any, call: str) -> Job:
    metadata, status = (
        _told(found.metadata, "the job's metadata", call),
        _told(found.status, "its status", call),
    )
    phase = _told(status.phase, "the job's phase", call)
    return Job(str(metadata.id), str(metadata.name or ""), str(phase), tuple(map(str, status.tasks or ())))


def _flavor(item: Any) -> Flavor:
    info = item.flavor_info
    cpus = int(info.cpu.core_num or 0) if info and info.cpu else 0
    memory = info.memory if info else None
    mib = int(memory.size or 0) * _MIB.get(str(memory.unit).upper(), 0) if memory else 0
    return Flavor(str(item.flavor_id), cpus, mib)
