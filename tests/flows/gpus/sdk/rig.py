"""Pull the strings of a simulated seller of jobs, for those whose adapters go through the seller's own SDK."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from fleet_contracts import utc_now
from flows.gpus.base import GpuProvider
from flows.gpus.sdk.simulator import SellerSimulator
from tests.flows.gpus.contract import Fault, Rig, Truth
from tests.helpers import missing

KEY = ("AKID0123456789abcdef", "5ecretKeyOfThe5eller")


class Clock:
    """Be the seller's clock; the tests let it pass."""

    def __init__(self) -> None:
        self.at = utc_now()

    def __call__(self) -> datetime:
        """Return the present moment."""
        return self.at


class JobsRig(Rig):
    """Hold an adapter and its simulator; a subclass says how jobs are made and how they end there."""

    secrets = KEY
    quiet = frozenset()
    package: ClassVar[str]
    key_names: ClassVar[tuple[str, str]]
    done: ClassVar[str]
    lost: ClassVar[str]

    def __init__(self, folder: Path, simulator: SellerSimulator, clock: Clock) -> None:
        if importlib.util.find_spec(self.package) is None:
            missing(f"the seller's SDK {self.package}", "run scripts/setup.sh test")
        self.folder, self.simulator, self.clock = folder, simulator, clock
        self.keep_key(KEY)
        self._provider = self.make()

    def make(self) -> GpuProvider:
        """Return the adapter."""
        raise NotImplementedError

    def make_foreign(self, name: str) -> None:
        """Have somebody make a job on the account."""
        raise NotImplementedError

    def keep_key(self, key: tuple[str, str], **more: str) -> None:
        """Write a key where the adapter reads it."""
        path = self.folder / "key.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({**dict(zip(self.key_names, key, strict=True)), **more}))

    @property
    def provider(self) -> GpuProvider:
        """Return the adapter."""
        return self._provider

    def truth(self) -> tuple[Truth, ...]:
        """Return every job."""
        return tuple(
            Truth(job.job_id, costs=self.simulator.costs(job)) for job in self.simulator.now_all()
        )  # fmt: skip

    def environment(self, machine: str) -> Mapping[str, str]:
        """Return what the job was created with."""
        return self.simulator.jobs[machine].environment

    def finish(self, machine: str) -> None:
        """End a job by itself."""
        self.simulator.change(machine, self.done)

    def take_away(self, machine: str) -> None:
        """Have a job preempted."""
        self.simulator.change(machine, self.lost)

    def says(self, machine: str, line: str) -> None:
        """Write a line."""
        self.simulator.write(machine, line)

    def arm(self, fault: Fault) -> None:
        """Begin a fault."""
        self.simulator.begin(fault)

    def fired(self, fault: Fault) -> int:
        """Return how often it hit."""
        return self.simulator.fired(fault)

    def calm(self) -> None:
        """End the fault."""
        self.simulator.calm()

    def foreign(self) -> tuple[str, ...]:
        """Make a person's job and another installation's."""
        before = set(self.simulator.jobs)
        for name in ("somebody-training", "ws-plant77-0123456789abcdef", "ws-plant7-by-hand"):
            self.make_foreign(name)
        return tuple(set(self.simulator.jobs) - before)

    def shown(self) -> str:
        """Return all requests and jobs, without what authorises and without the values of environments."""
        hidden = {value for job in self.simulator.jobs.values() for value in job.environment.values()}
        seen = "\n".join(
            f"{one.method} {one.path} {one.raw_query} {dict(one.headers)} {one.body.decode()}"
            for one in self.simulator.seen
        )
        jobs = "\n".join(str(job) for job in self.simulator.jobs.values())
        text = f"{seen}\n{jobs}"
        for value in hidden:
            text = text.replace(json.dumps(value)[1:-1], "...").replace(value, "...")
        return text

    def now(self) -> datetime:
        """Return the clock."""
        return self.clock.at

    def advance(self, time: timedelta) -> None:
        """Let time pass."""
        self.clock.at += time

    def asked(self, path: str) -> list[dict[str, Any]]:
        """Return the documents sent to a path."""
        return [one.document for one in self.simulator.seen if one.path == path and one.method == "POST"]
