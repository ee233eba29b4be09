"""Be AutoDL's elastic deployments: what one asks for is placed where there is a GPU, or waits.

A ReplicaSet that lost a container starts another; a Job counts those that finished and is done. A deployment
that finds no GPU costs nothing. A deleted one is gone from every list.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flows.gpus.autodl.simulated_account import (
    Arguments,
    Call,
    Clock,
    Refusal,
    SimulatedMachine,
    Weather,
    page_of,
    required,
    trainer_ends,
    uuid_of,
)

ROOT = "/api/v1/dev/deployment"
TYPES = ("ReplicaSet", "Job", "Container")
STEPS = ("creating", "created", "starting", "oss_merged", "running")
_TEMPLATE = (
    "dc_list", "gpu_name_set", "gpu_num", "cuda_v_from", "cuda_v_to", "cpu_num_from", "cpu_num_to",
    "memory_size_from", "memory_size_to", "price_from", "price_to", "image_uuid", "cmd",
)  # fmt: skip
NO_RIGHT = Refusal("BadRequest", "无当前资源访问权限")


@dataclass
class Container:
    """Hold one container of a deployment."""

    uuid: str
    created: datetime
    ended_at: datetime | None = None
    """When it began to stop."""
    root_password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)


@dataclass
class Deployment:
    """Hold one deployment and all containers it ever had."""

    uuid: str
    name: str
    kind: str
    replicas: int
    template: dict[str, Any]
    created: datetime
    placeable: bool = True
    stopped_at: datetime | None = None
    containers: list[Container] = field(default_factory=list)

    @property
    def command(self) -> str:
        """Return the command of its containers."""
        return str(self.template.get("cmd") or "")


class ElasticCloud:
    """Be the deployments of one account.

    `stock` holds idle GPUs by region and name, `prices` thousandths of a yuan an hour by name.
    """

    def __init__(self, clock: Clock, weather: Weather) -> None:
        self._clock, self._weather = clock, weather
        self.deployments: dict[str, Deployment] = {}
        self.stock: dict[str, dict[str, int]] = {"westDC2": {"RTX 4090": 8, "H20": 0}}
        self.prices = {"RTX 4090": 1980, "H20": 6980}
        self.boots = timedelta(seconds=0.1)
        self.stops = timedelta(seconds=0.1)
        self.enterprise = True

    @property
    def calls(self) -> dict[tuple[str, str], Call]:
        """Return every endpoint by method and path; the stock alone asks for no certification."""
        certified: dict[tuple[str, str], Call] = {
            ("POST", ROOT): self._create,
            ("DELETE", ROOT): self._delete,
            ("POST", f"{ROOT}/list"): self._list,
            ("PUT", f"{ROOT}/operate"): self._operate,
            ("POST", f"{ROOT}/container/list"): self._containers,
            ("POST", f"{ROOT}/container/event/list"): self._events,
            ("PUT", f"{ROOT}/container/stop"): self._stop_container,
        }
        found: dict[tuple[str, str], Call] = {key: self._certified(call) for key, call in certified.items()}
        return {**found, ("POST", "/api/v1/dev/machine/region/gpu_stock"): self._stock}

    def machines(self) -> list[SimulatedMachine]:
        """Return how all deployments truly are."""
        self._settle()
        return [
            SimulatedMachine(one.uuid, one.name, one.command, any(map(self._is_on, one.containers)))
            for one in self.deployments.values()
        ]

    def add(self, name: str, *, kind: str = "Job", command: str = "sleep infinity") -> Deployment:
        """Make a deployment with one container, as somebody else would in the console."""
        made = Deployment(uuid_of("dep-"), name, kind, 1, {"cmd": command}, self._clock())
        self.deployments[made.uuid] = made
        self._settle()
        return made

    def end_program(self, uuid: str) -> None:
        """Let the command of every container of a deployment end."""
        self._end(self.deployments[uuid].containers)
        self._settle()

    def stop(self, uuid: str) -> None:
        """Stop a deployment, as a person would in the console."""
        deployment = self.deployments[uuid]
        deployment.stopped_at = deployment.stopped_at or self._clock()
        self._end(deployment.containers)

    def _create(self, arguments: Arguments) -> dict[str, str]:
        name, kind, template = required(arguments, "name", "deployment_type", "container_template")
        required(template, *_TEMPLATE)
        if kind not in TYPES:
            raise Refusal("RequestParameterIsWrong", "请求参数错误")
        replicas = 1 if kind == "Container" else int(required(arguments, "replica_num")[0])
        if kind == "Job":
            required(arguments, "parallelism_num")
        made = Deployment(uuid_of("dep-"), str(name), kind, replicas, dict(template), self._clock())
        made.placeable = self._is_placeable(template)
        self.deployments[made.uuid] = made
        return {"deployment_uuid": made.uuid}

    def _is_placeable(self, template: dict[str, Any]) -> bool:
        if self._weather.standing == "no-capacity":
            # The stock still shows idle GPUs, which lie in machines too small for the container.
            self._weather.hit("no-capacity")
            return False
        return any(
            self.stock.get(region, {}).get(name, 0) >= int(template["gpu_num"])
            and int(template["price_from"]) <= self.prices.get(name, 0) <= int(template["price_to"])
            for region in template["dc_list"]
            for name in template["gpu_name_set"]
        )

    def _delete(self, arguments: Arguments) -> None:
        deployment = self._known(arguments)
        self.stop(deployment.uuid)
        del self.deployments[deployment.uuid]

    def _operate(self, arguments: Arguments) -> None:
        if required(arguments, "operate") != ["stop"]:
            raise Refusal("RequestParameterIsWrong", "请求参数错误")
        deployment = self._known(arguments)
        if deployment.stopped_at is not None:
            raise Refusal("BadRequest", "部署已停止")
        self.stop(deployment.uuid)

    def _list(self, arguments: Arguments) -> dict[str, Any]:
        self._settle()
        now, wanted = self._clock(), arguments.get("deployment_uuid")
        shown = [one for one in self.deployments.values() if one.created + self._weather.lag <= now]
        if len(shown) < len(self.deployments):
            self._weather.hit("lag")
        return page_of([self._row(one) for one in shown if wanted in (None, "", one.uuid)], arguments)

    def _row(self, deployment: Deployment) -> dict[str, Any]:
        words = [self._word(one) for one in deployment.containers]
        return {
            "uuid": deployment.uuid,
            "name": deployment.name,
            "deployment_type": deployment.kind,
            "status": "stopped" if deployment.stopped_at else "running",
            "replica_num": deployment.replicas,
            "parallelism_num": 1,
            "reuse_container": False,
            "starting_num": sum(word in STEPS[:-1] for word in words),
            "running_num": words.count("running"),
            "finished_num": words.count("shutdown"),
            "image_uuid": deployment.template.get("image_uuid"),
            "template": deployment.template,
            "created_at": deployment.created.isoformat(timespec="seconds"),
        }

    def _containers(self, arguments: Arguments) -> dict[str, Any]:
        deployment = self._known(arguments)
        self._settle()
        released = bool(arguments.get("released"))
        shown = [one for one in deployment.containers if (self._word(one) == "shutdown") == released]
        names = deployment.template.get("gpu_name_set") or ["RTX 4090"]
        rows = [
            {
                "uuid": one.uuid, "deployment_uuid": deployment.uuid, "status": self._word(one),
                "gpu_name": names[0], "gpu_num": deployment.template.get("gpu_num", 1),
                "price": self.prices[names[0]], "created_at": one.created.isoformat(timespec="seconds"),
                "info": {"ssh_command": "ssh -p 1 root@example.invalid", "root_password": one.root_password},
            }
            for one in shown
        ]  # fmt: skip
        return page_of(rows, arguments)

    def _events(self, arguments: Arguments) -> dict[str, Any]:
        deployment = self._known(arguments)
        self._settle()
        rows = [
            {"deployment_container_uuid": one.uuid, "status": word, "created_at": at.isoformat()}
            for one in deployment.containers
            for word, at in self._steps(one)
        ]
        return page_of(rows, arguments)

    def _stop_container(self, arguments: Arguments) -> None:
        (uuid,) = required(arguments, "deployment_container_uuid")
        for deployment in self.deployments.values():
            found = [one for one in deployment.containers if one.uuid == uuid]
            if found and arguments.get("decrease_one_replica_num"):
                deployment.replicas -= 1
            self._end(found)
        self._settle()

    def _stock(self, arguments: Arguments) -> list[dict[str, Any]]:
        (region,) = required(arguments, "region_sign")
        return [
            {name: {"idle_gpu_num": idle, "total_gpu_num": max(idle, 8), "chip_corp": "nvidia"}}
            for name, idle in self.stock.get(str(region), {}).items()
        ]  # fmt: skip

    def _certified(self, call: Call) -> Call:
        def checked(arguments: Arguments) -> Any:
            if not self.enterprise:
                raise NO_RIGHT
            return call(arguments)

        return checked

    def _known(self, arguments: Arguments) -> Deployment:
        (uuid,) = required(arguments, "deployment_uuid")
        found = self.deployments.get(str(uuid))
        if found is None:
            raise Refusal("RecordNotFoundError", "未查询到相关部署")
        return found

    def _settle(self) -> None:
        """Bring every deployment to where it should be by now."""
        now = self._clock()
        for deployment in self.deployments.values():
            ends = trainer_ends(deployment.command)
            if ends is not None and ends <= now:
                self._end(deployment.containers, ends)
            # What a ReplicaSet wants it wants for ever; a Job is content with what has run.
            had = [
                one
                for one in deployment.containers
                if deployment.kind != "ReplicaSet" or one.ended_at is None
            ]
            if deployment.stopped_at is None and deployment.placeable and len(had) < deployment.replicas:
                deployment.containers.append(Container(uuid_of(""), now))

    def _end(self, containers: list[Container], at: datetime | None = None) -> None:
        for container in containers:
            container.ended_at = container.ended_at or at or self._clock()

    def _is_on(self, container: Container) -> bool:
        return self._word(container) != "shutdown"

    def _word(self, container: Container) -> str:
        return self._steps(container)[-1][0]

    def _steps(self, container: Container) -> list[tuple[str, datetime]]:
        """Return the states a container went through until now."""
        now, step = self._clock(), self.boots / (len(STEPS) - 1)
        went = [(word, container.created + number * step) for number, word in enumerate(STEPS)]
        if container.ended_at is not None:
            went = [(word, at) for word, at in went if at <= container.ended_at]
            went += [("shutting_down", container.ended_at), ("shutdown", container.ended_at + self.stops)]
        return [(word, at) for word, at in went if at <= now] or went[:1]
