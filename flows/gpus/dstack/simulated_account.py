"""Keep the runs, fleets, secrets and instances of a simulated dstack server, as time passes for them.

Nothing here rests on how fast a machine is: what takes a while is over after so many looks at it (`LOOKS`),
and only the boot of an instance and `max_duration` go by the clock, which can be advanced.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from fleet_contracts import utc_now

LOOKS = 3
"""How many requests a run, an instance and a fleet take to end, one after the other."""
_SECRET = re.compile(r"\$\{\{\s*secrets\.(\S+?)\s*\}\}")
_REFERENCE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
Status = Literal["submitted", "provisioning", "running", "terminating", "terminated", "failed", "done"]


class Refusal(Exception):
    """Tell what the server answers instead of a result: a status and the `detail` of the body."""

    def __init__(self, status: int, detail: object) -> None:
        super().__init__(status)
        self.status, self.detail = status, detail


def refused(message: str, code: str = "error") -> Refusal:
    """Return the HTTP 400 of dstack's own refusals."""
    return Refusal(400, [{"msg": message, "code": code}])


@dataclass
class Clock:
    """Be the server's clock: the real one, and what it was advanced by."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        """Return the present moment."""
        return utc_now() + self.ahead


@dataclass
class Run:
    """Hold one run, its only job, and the instance that it has once it was provisioned."""

    spec: dict[str, Any]
    submitted: datetime
    seconds: float
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: Status = "submitted"
    ends_as: Status = "terminated"
    reason: str | None = None
    job_reason: str | None = None
    message: str | None = None
    exit_status: int | None = None
    instance: str = ""
    """"" before there is one; then a state of dstack's."""
    looks: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the name, which is its fleet's as well."""
        return str(self.spec["run_name"])

    @property
    def is_over(self) -> bool:
        """Tell whether it has ended."""
        return self.status in ("terminated", "failed", "done")

    @property
    def costs(self) -> bool:
        """Tell whether somebody pays for it now."""
        return self.instance not in ("", "terminated")

    def end(self, ends_as: Status, reason: str, job_reason: str, message: str | None = None) -> None:
        """Begin its end."""
        if not self.is_over and self.status != "terminating":
            self.status, self.ends_as, self.looks = "terminating", ends_as, 0
            self.reason, self.job_reason, self.message = reason, job_reason, message


@dataclass
class Fleet:
    """Hold one fleet; its instance is its run's."""

    spec: dict[str, Any]
    created: datetime
    status: str = "active"
    looks: int = 0

    @property
    def name(self) -> str:
        """Return the name."""
        return str(self.spec["configuration"]["name"])


@dataclass
class Account:
    """Be everything a project has; `boot` is from a run's submission until its task runs."""

    clock: Clock = field(default_factory=Clock)
    boot: timedelta = timedelta(0)
    runs: dict[str, Run] = field(default_factory=dict)
    fleets: dict[str, Fleet] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    fails_next: list[tuple[str, str]] = field(default_factory=list)
    """Reason and message with which the next runs fail once they were taken."""
    refuses_next: list[str] = field(default_factory=list)
    """Messages with which the next runs are not even taken."""
    keeps_instances: bool = False
    """Whether instances outlive their runs: what dstack's users call orphans."""

    def pass_time(self) -> None:
        """Let everything go on by one look."""
        for run in self.runs.values():
            self._go_on(run)
        for fleet in list(self.fleets.values()):
            if fleet.status != "terminating":
                continue
            fleet.looks += 1
            if fleet.looks >= LOOKS and not self.costs_in(fleet.name):
                del self.fleets[fleet.name]

    def apply(self, spec: dict[str, Any]) -> Run:
        """Take a run, as `runs/apply` with `force: false` and no current resource does."""
        name, configuration = str(spec["run_name"]), spec["configuration"]
        known = self.runs.get(name)
        if self.refuses_next:
            raise refused(self.refuses_next.pop(0))
        if known is not None and not known.is_over:
            same = known.spec == spec
            raise refused(
                "Failed to apply plan. Resource has been changed. Try again or use force apply."
                if same
                else "Cannot override active run. Stop the run first."
            )
        run = Run(spec, self.clock(), float(configuration.get("max_duration") or 365 * 86400))
        self.runs[name] = run
        fleets = configuration.get("fleets") or list(self.fleets)
        if not any(fleet in self.fleets and self.fleets[fleet].status == "active" for fleet in fleets):
            self._fail(run, "failed_to_start_due_to_no_capacity", "No matching fleet found.")
            return run
        try:
            run.environment = {key: self._filled(value) for key, value in configuration["env"].items()}
        except LookupError as error:
            run.end(
                "failed",
                "job_failed",
                "terminated_by_server",
                f"Secrets interpolation error: {error.args[0]}",
            )
            return run
        if self.fails_next:
            self._fail(run, *self.fails_next.pop(0))
        return run

    def delete_fleet(self, name: str) -> None:
        """Begin a fleet's end, where no run is in it."""
        fleet, run = self.fleets.get(name), self.runs.get(name)
        if fleet is None:
            return
        if run is not None and not run.is_over:
            raise refused(f"Failed to delete fleet {name}. Fleet is in use.")
        if run is not None and run.costs:
            run.instance, run.looks = "terminating", 0
        if fleet.status != "terminating":
            fleet.status, fleet.looks = "terminating", 0

    def costs_in(self, name: str) -> bool:
        """Tell whether a fleet's instance costs."""
        run = self.runs.get(name)
        return run is not None and run.costs

    def _go_on(self, run: Run) -> None:
        if run.status in ("submitted", "provisioning"):
            run.status, run.instance = "provisioning", "provisioning"
            if self.clock() >= run.submitted + self.boot:
                run.status, run.instance = "running", "busy"
        if run.status == "running" and self.clock() >= run.submitted + self.boot + timedelta(
            seconds=run.seconds
        ):
            run.end("terminated", "all_jobs_done", "max_duration_exceeded")
            run.message = f"The job exceeded the max_duration of {run.seconds:.0f} seconds"
        elif run.status == "terminating":
            run.looks += 1
            if run.looks >= LOOKS:
                run.status, run.looks = run.ends_as, 0
                run.instance = run.instance and ("idle" if self.keeps_instances else "terminating")
        elif run.is_over and run.instance == "terminating":
            run.looks += 1
            run.instance = "terminated" if run.looks >= LOOKS else run.instance

    @staticmethod
    def _fail(run: Run, reason: str, message: str) -> None:
        run.end("failed", "job_failed", reason, message)

    def _filled(self, value: str) -> str:
        def secret(found: re.Match[str]) -> str:
            name = found.group(1)
            if not _REFERENCE.fullmatch(name):
                raise LookupError(f"Illegal reference name: secrets.{name}")
            if name not in self.secrets:
                raise LookupError(f"Failed to interpolate due to missing vars: ['secrets.{name}']")
            return self.secrets[name]

        return _SECRET.sub(secret, value)
