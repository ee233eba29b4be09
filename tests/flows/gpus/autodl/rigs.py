"""Put both AutoDL adapters before one simulated account."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from flows.gpus.autodl.account import Pace
from flows.gpus.autodl.command import environment_in
from flows.gpus.autodl.elastic import AutodlElasticProvider
from flows.gpus.autodl.pro import AutodlProProvider
from flows.gpus.autodl.simulated_elastic import ElasticCloud
from flows.gpus.autodl.simulated_pro import ProCloud
from flows.gpus.autodl.simulator import AutodlSimulator
from flows.gpus.settings import AutodlElasticSection, AutodlProSection, ForeignMoney, PricedSpec
from tests.flows.gpus.contract import INSTALLATION, Fault, Rig, Truth

TOKEN = "autodl-4f2e91-t0ken-nobody-may-see"
YUAN = ForeignMoney(per_dollar=7.0)
NO_LOGS = "AutoDL's API keeps no output"
QUICK = {"patience": 2.0, "placing": 0.3, "poll": 0.01}


def pro_section(simulator: AutodlSimulator, **changes: object) -> AutodlProSection:
    """Return settings of container instances Pro."""
    settings = {
        "kind": "autodl-pro", "token": "file:token", "url": simulator.url, "money": YUAN,
        "image_uuid": "image-0123456789", "data_centers": ("westDC3",),
        "specs": [PricedSpec(spec="v-48g", gpu="RTX 4090", gpu_memory_mib=49140, price=2.98),
                  PricedSpec(spec="5090-p", gpu="RTX 5090", gpu_memory_mib=32607, price=2.88)],
    }  # fmt: skip
    return AutodlProSection.model_validate({**settings, **changes})


def elastic_section(simulator: AutodlSimulator, **changes: object) -> AutodlElasticSection:
    """Return settings of elastic deployments."""
    settings = {
        "kind": "autodl-elastic", "token": "file:token", "url": simulator.url, "money": YUAN,
        "image_uuid": "image-0123456789", "regions": ("westDC2",),
        "specs": [PricedSpec(spec="RTX 4090", gpu="RTX 4090", gpu_memory_mib=24564, price=1.98),
                  PricedSpec(spec="H20", gpu="H20", gpu_memory_mib=98304, price=6.98)],
    }  # fmt: skip
    return AutodlElasticSection.model_validate({**settings, **changes})


def pace_of(simulator: AutodlSimulator) -> Pace:
    """Return a pace that fits a simulator on loopback and goes by its clock."""
    return Pace(**QUICK, now=simulator.clock)


def commands_in(simulator: AutodlSimulator) -> list[str]:
    """Return every command a machine was to be started with."""
    bodies = [json.loads(one.body) for one in simulator.seen if one.method == "POST" and one.body]
    templates = [body.get("container_template", {}) for body in bodies]
    found = [body.get("start_command") for body in bodies] + [one.get("cmd") for one in templates]
    return [command for command in found if command]


class AutodlRig(Rig):
    """Pull the strings of the simulated account."""

    secrets = (TOKEN,)

    def __init__(self, folder: Path, simulator: AutodlSimulator) -> None:
        self.simulator = simulator
        (folder / "token").write_text(TOKEN + "\n")
        (folder / "token").chmod(0o600)

    @property
    def cloud(self) -> ProCloud | ElasticCloud:
        """Return the part of the account the adapter speaks to."""
        raise NotImplementedError

    def truth(self) -> tuple[Truth, ...]:
        return tuple(Truth(one.machine, one.costs) for one in self.simulator.machines)

    def environment(self, machine: str) -> Mapping[str, str]:
        (found,) = (one for one in self.simulator.machines if one.machine == machine)
        return environment_in(found.command)

    def finish(self, machine: str) -> None:
        self.cloud.end_program(machine)

    def take_away(self, machine: str) -> None:
        self.cloud.stop(machine)

    def arm(self, fault: Fault) -> None:
        self.simulator.weather.fired.clear()
        if fault == "lag":
            self.simulator.weather.lag = self.provider.settles
        else:
            self.simulator.arm(fault)

    def fired(self, fault: Fault) -> int:
        return self.simulator.weather.fired.get(fault, 0)

    def calm(self) -> None:
        self.simulator.calm()

    def foreign(self) -> tuple[str, ...]:
        names = ("my-notebook", "ws-plant8-0011223344556677", "ws-plant7-mine", "")
        return tuple(self.cloud.add(name).uuid for name in names)

    def shown(self) -> str:
        machines = self.simulator.machines
        text = "\n".join([*map(repr, self.simulator.seen), *map(repr, machines)])
        # Neither API has a field for an environment: it stands in the command, and so on the seller's pages.
        for command in commands_in(self.simulator):
            for value in environment_in(command).values():
                text = text.replace(value, "<a value of the environment>")
        return text

    def now(self) -> datetime:
        return self.simulator.clock()

    def advance(self, time: timedelta) -> None:
        self.simulator.advance(time)


class ProRig(AutodlRig):
    """Hold the adapter of container instances Pro."""

    quiet = frozenset({"offers", "logs"})
    lacks = {"logs": NO_LOGS}

    def __init__(self, folder: Path, simulator: AutodlSimulator) -> None:
        super().__init__(folder, simulator)
        section = pro_section(simulator)
        self._provider = AutodlProProvider("autodl", section, INSTALLATION, folder, pace=pace_of(simulator))

    @property
    def provider(self) -> AutodlProProvider:
        return self._provider

    def hurry(self) -> None:
        """Have the adapter wait less for what will not come."""
        self._provider._pace = replace(self._provider._pace, patience=0.4)

    @property
    def cloud(self) -> ProCloud:
        return self.simulator.pro


class ElasticRig(AutodlRig):
    """Hold the adapter of elastic deployments."""

    lacks = {"logs": NO_LOGS}

    def __init__(self, folder: Path, simulator: AutodlSimulator) -> None:
        super().__init__(folder, simulator)
        section = elastic_section(simulator)
        self._provider = AutodlElasticProvider(
            "autodl-esd", section, INSTALLATION, folder, pace=pace_of(simulator)
        )

    @property
    def provider(self) -> AutodlElasticProvider:
        return self._provider

    @property
    def cloud(self) -> ElasticCloud:
        return self.simulator.elastic
