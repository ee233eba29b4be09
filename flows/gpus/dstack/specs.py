"""Write what dstack is asked for: a query for offers, a fleet of one, a task; pure.

Every lease has a fleet of its own, at most one instance large, which bears the lease's name. dstack starts
nothing outside a fleet; in one of its own a lease cannot have two machines, whatever its server does, and an
instance that outlives its run is seen and known.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

from flows.gpus.dstack.offers import Place
from flows.gpus.settings import DstackSection
from flows.gpus.starting import CLAIM, Start

MOST_OFFERS = 10_000
"""The most that dstack returns."""
LEAST_SECONDS = 60
STOP_SECONDS = 60
"""How long dstack waits for a task that is told to stop, before it takes the machine."""
_ANY_GPU = {"vendor": "nvidia", "count": {"min": 1}}
_CPU = {"arch": "x86", "count": {"min": 2}}
"""The trainer's image is made for x86. Named here, dstack needs not ask the image's registry for it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Hold what is to be started; `seconds` is how long the task may run, `ceiling` dollars an hour."""

    tag: str
    place: Place
    spot: bool
    ceiling: float | None
    seconds: int


def secret_name(tag: str) -> str:
    """Return what the claim is called among the project's secrets.

    dstack stores a secret whose name has dashes, and then cannot find it when a task names it.

    >>> secret_name("ws-plant7-0011223344556677")
    'ws_plant7_0011223344556677'
    """
    return re.sub(r"[^A-Za-z0-9_]", "_", tag)


def offers_query(section: DstackSection) -> dict[str, Any]:
    """Return the body of `runs/get_plan` that asks for everything the section allows."""
    configuration = {
        **_task(section.image, "true", {}, _ANY_GPU),
        "spot_policy": "auto",
        "regions": list(section.regions) or None,
        "backends": list(section.backends) or None,
    }
    return _query({"configuration": configuration})


def place_query(section: DstackSection, wish: Wish) -> dict[str, Any]:
    """Return the body of `runs/get_plan` that asks for one offer at any price."""
    configuration = {**_task(section.image, "true", {}, _gpu(wish.place)), **_where(wish)}
    return _query({"configuration": configuration})


def fleet_spec(wish: Wish) -> dict[str, Any]:
    """Return the fleet of a lease: empty until its run wants an instance, and again as soon as it is over."""
    return {
        "configuration": {
            "type": "fleet",
            "name": wish.tag,
            "nodes": {"min": 0, "max": 1},
            "idle_duration": 0,
            **_where(wish),
            "tags": {"whetstone-lease": wish.tag},
        },
        "profile": {"name": "default"},
    }


def run_spec(section: DstackSection, wish: Wish, start: Start) -> dict[str, Any]:
    """Return the run of a lease; the claim stands in it as the name of a secret alone."""
    environment = {**start.environment, CLAIM: f"${{{{ secrets.{secret_name(wish.tag)} }}}}"}
    configuration = {
        **_task(start.image, f"exec {shlex.join(start.command)}", environment, _gpu(wish.place)),
        "name": wish.tag,
        **_where(wish),
        "fleets": [wish.tag],
        "max_price": wish.ceiling,
        "max_duration": max(wish.seconds, LEAST_SECONDS),
        "stop_duration": STOP_SECONDS,
        # What comes after a machine that died or cannot be had is decided by us, on all providers' offers.
        "retry": False,
        "creation_policy": "reuse-or-create",
        "idle_duration": 0,
        "utilization_policy": _utilisation(section),
        "tags": {"whetstone-lease": wish.tag},
    }
    return {"run_name": wish.tag, "configuration": configuration}


def _task(image: str, command: str, environment: dict[str, str], gpu: dict[str, Any]) -> dict[str, Any]:
    # A user that is named spares dstack another question to the image's registry.
    return {
        "type": "task",
        "image": image,
        "user": "root",
        "commands": [command],
        "env": environment,
        "resources": {"cpu": _CPU, "gpu": gpu},
    }


def _gpu(place: Place) -> dict[str, Any]:
    exactly = place.memory_mib / 1024
    return {
        "vendor": "nvidia",
        "name": [place.gpu],
        "count": {"min": place.count, "max": place.count},
        "memory": {"min": exactly, "max": exactly},
    }


def _where(wish: Wish) -> dict[str, Any]:
    return {
        "backends": [wish.place.backend],
        "regions": [wish.place.region],
        "instance_types": [wish.place.instance],
        "spot_policy": "spot" if wish.spot else "on-demand",
    }


def _utilisation(section: DstackSection) -> dict[str, int] | None:
    if section.least_utilisation == 0:
        return None
    return {"min_gpu_utilization": section.least_utilisation, "time_window": section.idle_minutes * 60}


def _query(spec: dict[str, Any]) -> dict[str, Any]:
    return {"run_spec": spec, "max_offers": MOST_OFFERS, "for_offers_only": True}
