"""Be AutoDL's container instances Pro: run when created, stop through `shutting_down`, released when stopped.

A guest does what its start command says and no more: where it powers off at its end, the instance stops then;
where it does not, the instance runs on and costs, as a real one would.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flows.gpus.autodl.command import POWER_OFF
from flows.gpus.autodl.simulated_account import (
    Arguments,
    Call,
    Clock,
    Refusal,
    SimulatedMachine,
    Weather,
    moment,
    page_of,
    required,
    trainer_ends,
    uuid_of,
)

ROOT = "/api/v1/dev/instance/pro"
MISSING = Refusal("RecordNotFoundError", "未查询到相关实例")
_MOST_GPUS = 4


@dataclass
class Instance:
    """Hold one instance; prices in thousandths of a yuan an hour."""

    uuid: str
    name: str
    spec: str
    gpus: int
    price: int
    command: str
    created: datetime
    region: str
    off_at: datetime | None = None
    """When it began to stop."""
    root_password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)
    jupyter_token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)


class ProCloud:
    """Be the instances of one account.

    `prices` are those of each spec, `stock` how many GPUs are left of it, unlimited where it is not named.
    """

    def __init__(self, clock: Clock, weather: Weather) -> None:
        self._clock, self._weather = clock, weather
        self.instances: dict[str, Instance] = {}
        self.prices = {"v-48g": 2980, "5090-p": 2880, "pro6000-p": 5980, "h800": 8880}
        self.stock: dict[str, int] = {}
        self.boots = timedelta(seconds=0.1)
        self.stops = timedelta(seconds=0.1)
        self.tells_price = True
        self.real_name = True

    @property
    def calls(self) -> dict[tuple[str, str], Call]:
        """Return every endpoint by method and path."""
        return {
            ("POST", f"{ROOT}/create"): self._create,
            ("POST", f"{ROOT}/list"): self._list,
            ("GET", f"{ROOT}/status"): lambda arguments: self._word(self._known(arguments)),
            ("GET", f"{ROOT}/snapshot"): self._snapshot,
            ("POST", f"{ROOT}/power_off"): self._power_off,
            ("POST", f"{ROOT}/release"): self._release,
        }

    def machines(self) -> list[SimulatedMachine]:
        """Return how all instances truly are; a stopped one, whose disk was not enlarged, is free."""
        return [
            SimulatedMachine(one.uuid, one.name, one.command, self._word(one) != "shutdown")
            for one in self.instances.values()
        ]

    def add(self, name: str, *, spec: str = "v-48g", command: str = "sleep infinity") -> Instance:
        """Make an instance as somebody else would in the console."""
        price = self.prices[spec]
        made = Instance(uuid_of("pro-"), name, spec, 1, price, command, self._clock(), "westDC3")
        self.instances[made.uuid] = made
        return made

    def end_program(self, uuid: str) -> None:
        """Let the program on an instance end: the start command goes on to its next words."""
        instance = self.instances[uuid]
        if instance.command.rstrip().endswith(POWER_OFF):
            self.stop(uuid)

    def stop(self, uuid: str) -> None:
        """Power an instance off, from within or in the console."""
        instance = self.instances[uuid]
        instance.off_at = instance.off_at or self._clock()

    def _create(self, arguments: Arguments) -> str:
        spec, image, gpus = required(arguments, "gpu_spec_uuid", "image_uuid", "req_gpu_amount")
        required(arguments, "cuda_v_from", "expand_system_disk_by_gb")
        if not self.real_name:
            raise Refusal("TORealName", "未完成实名认证,认证后才可使用")
        if spec not in self.prices or not 1 <= int(gpus) <= _MOST_GPUS or not image:
            raise Refusal("RequestParameterIsWrong", "请求参数错误")
        if self._weather.standing == "no-capacity":
            self._weather.hit("no-capacity")
            raise _no_stock()
        if self.stock.get(spec, int(gpus)) < int(gpus):
            raise _no_stock()
        regions = list(arguments.get("data_center_list") or ["westDC3"])
        made = Instance(
            uuid_of("pro-"), str(arguments.get("instance_name") or ""), spec, int(gpus), self.prices[spec],
            str(arguments.get("start_command") or ""), self._clock(), regions[0],
        )  # fmt: skip
        self.instances[made.uuid] = made
        return made.uuid

    def _list(self, arguments: Arguments) -> dict[str, Any]:
        now = self._clock()
        shown = [one for one in self.instances.values() if one.created + self._weather.lag <= now]
        if len(shown) < len(self.instances):
            self._weather.hit("lag")
        return page_of([self._row(one) for one in shown], arguments)

    def _row(self, instance: Instance) -> dict[str, Any]:
        word = self._word(instance)
        off = instance.off_at if word == "shutdown" else None
        return {
            "created_at": instance.created.isoformat(timespec="seconds"),
            "uuid": instance.uuid,
            "machine_id": instance.uuid[-10:],
            "machine_alias": "",
            "region_sign": instance.region,
            "status": word,
            "sub_status": "",
            "status_at": (instance.off_at or instance.created).isoformat(timespec="seconds"),
            "start_mode": "gpu",
            "charge_type": "payg",
            "req_gpu_amount": instance.gpus,
            "expired_at": moment(None),
            "started_at": moment(instance.created),
            "stopped_at": moment(off),
            "name": instance.name,
            "timed_shutdown_at": moment(None),
            "gpu_spec_uuid": instance.spec,
        }

    def _snapshot(self, arguments: Arguments) -> dict[str, Any]:
        instance = self._known(arguments)
        return {
            "region_sign": instance.region,
            "payg_price": instance.price if self.tells_price else 0,
            "origin_pay_price": instance.price,
            "snapshot_gpu_alias_name": instance.spec,
            "chip_corp": "nvidia",
            "cpu_arch": "x86",
            "usage_info": {"container_id": f"autodl-{instance.uuid}", "valid": False},
            "ssh_command": "ssh -p 34222 root@connect.example.invalid",
            "proxy_host": "connect.example.invalid",
            "root_password": instance.root_password,
            "ssh_port": 34222,
            "jupyter_token": instance.jupyter_token,
            "jupyter_domain": "a1.example.invalid:8443",
        }

    def _power_off(self, arguments: Arguments) -> None:
        instance = self._known(arguments)
        if self._word(instance) in ("shutting_down", "shutdown"):
            raise Refusal("BadRequest", "实例当前状态不支持该操作")
        self.stop(instance.uuid)

    def _release(self, arguments: Arguments) -> None:
        instance = self._known(arguments)
        if self._word(instance) != "shutdown":
            raise Refusal("BadRequest", "请在关机后释放实例")
        del self.instances[instance.uuid]

    def _known(self, arguments: Arguments) -> Instance:
        (uuid,) = required(arguments, "instance_uuid")
        found = self.instances.get(str(uuid))
        if found is None:
            raise MISSING
        return found

    def _word(self, instance: Instance) -> str:
        now = self._clock()
        ends = trainer_ends(instance.command)
        if ends is not None and ends <= now and instance.off_at is None and POWER_OFF in instance.command:
            instance.off_at = ends
        if instance.off_at is not None:
            return "shutdown" if instance.off_at + self.stops <= now else "shutting_down"
        since = now - instance.created
        if since < self.boots:
            return "creating" if since < self.boots / 2 else "starting"
        return "running"


def _no_stock() -> Refusal:
    return Refusal("InternalError", "当前算力规格暂无库存, 请修改配置或稍等再试")
