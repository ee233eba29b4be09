"""Put work pools, deployments and automations on a Prefect server; doing it twice is once.

    retrain/retrain            pool whetstone           what comes without a tier
    retrain/retrain-<tier>     pool whetstone-<tier>    see `tiers`
    reap/reap                  pool whetstone           by schedule, beside the reaper's own process

`prefect.yaml` says the same for those who deploy by hand (`prefect deploy --all`); a test keeps both alike.
A deployment names a module, not a path, so it needs no pull step wherever the package is installed. It
names no working directory either: Prefect copies whatever lies in it for each run.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.retrain.automations import crashed_runs, labels_ready, lost_runs
from flows.retrain.tiers import DEPLOYMENT, POOL, TIERS
from flows.settings import FILE_NAME, load_settings

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.automations import AutomationCore
    from prefect.client.orchestration import PrefectClient

log = logging.getLogger("whetstone.retrain")

REAP = "reap"
REAP_EVERY = "*/10 * * * *"
"""When the reaper's flow runs, as cron writes it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what to deploy: `entrypoint` is `package.module.flow`.

    `concurrency` bounds the retrainings of one deployment at a time, over all tasks; those of one task are
    kept apart by `runs.alone`. What comes while all slots are taken is asked for again by ingest's sweep.
    """

    entrypoint: str = "flows.retrain.flow.retrain"
    deployment: str = DEPLOYMENT
    pool: str = POOL
    concurrency: int = 1


@dataclass(frozen=True, slots=True)
class Deployed:
    """Describe one deployment; `tier` is "" for those of no tier, `cron` for those without a schedule."""

    name: str
    pool: str
    entrypoint: str
    description: str
    concurrency: int
    tier: str = ""
    cron: str = ""


def deployments_of(wanted: Wanted) -> tuple[Deployed, ...]:
    """Return every deployment, the common one for retraining first."""
    what = "Retrain a task's model on its verified labels, judge it, sign it and roll it out"
    common = Deployed(wanted.deployment, wanted.pool, wanted.entrypoint, f"{what}.", wanted.concurrency)
    tiers = (
        replace(
            common, name=f"{common.name}-{tier}", pool=f"{common.pool}-{tier}", tier=tier,
            description=f"{what}: tier {tier}.",
        )
        for tier in TIERS
    )  # fmt: skip
    reap = Deployed(
        REAP, wanted.pool, "flows.gpus.flow.reap", "End every rented machine that no live lease owns.", 1,
        cron=REAP_EVERY,
    )  # fmt: skip
    return (common, *tiers, reap)


async def install(wanted: Wanted) -> UUID:
    """Make pools, deployments and automations as wanted; return the common deployment's id."""
    from prefect import get_client

    deployed = deployments_of(wanted)
    ids: dict[str, UUID] = {}
    async with get_client() as client:
        for pool in dict.fromkeys(one.pool for one in deployed):
            await _make_pool(client, pool)
        for one in deployed:
            ids[one.name] = await _make_deployment(client, one)
        for automation in automations_of(deployed, ids):
            await _make_automation(client, automation)
    return ids[wanted.deployment]


def automations_of(deployed: Sequence[Deployed], ids: Mapping[str, UUID]) -> tuple[AutomationCore, ...]:
    """Return every automation: two for each deployment that retrains, and one for all lost runs."""
    retraining = [one for one in deployed if one.name != REAP]
    return (
        *(labels_ready(ids[one.name], tier=one.tier) for one in retraining),
        lost_runs(),
        *(crashed_runs(ids[one.name], tier=one.tier) for one in retraining),
    )


def load_flow(entrypoint: str) -> Flow[..., Any]:
    """Return the flow an entrypoint names."""
    module, _, name = entrypoint.rpartition(".")
    found: Flow[..., Any] = getattr(importlib.import_module(module), name)
    return found


async def _make_pool(client: PrefectClient, name: str) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        await client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        pool = WorkPoolCreate(name=name, type="process", base_job_template=template)
        try:
            await client.create_work_pool(pool)
        except ObjectAlreadyExists:
            log.debug("retrain.pool_made_by_another name=%s", name)


async def _make_deployment(client: PrefectClient, wanted: Deployed) -> UUID:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.utilities.callables import parameter_schema

    flow = load_flow(wanted.entrypoint)
    flow_id = await client.create_flow_from_name(flow.name)
    options = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    return await client.create_deployment(
        flow_id=flow_id,
        name=wanted.name,
        description=wanted.description,
        entrypoint=wanted.entrypoint,
        work_pool_name=wanted.pool,
        schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron=wanted.cron))]
        if wanted.cron
        else None,
        tags=["whetstone"],
        parameter_openapi_schema=parameter_schema(flow).model_dump(),
        enforce_parameter_schema=True,
        concurrency_limit=wanted.concurrency,
        concurrency_options=options,
    )


async def _make_automation(client: PrefectClient, wanted: AutomationCore) -> None:
    """Keep one automation of this name: two would start every run twice.

    One that is as wanted is left alone, since an update forgets which runs it was waiting for.
    """
    found = await client.read_automations_by_name(wanted.name)
    for extra in found[1:]:
        await client.delete_automation(extra.id)
    if not found:
        await client.create_automation(wanted)
    elif meaning_of(found[0]) != meaning_of(wanted):
        await client.update_automation(found[0].id, wanted)


def meaning_of(automation: AutomationCore) -> dict[str, Any]:
    """Return what an automation does, without the ids a server gives it, in an order that can be compared."""
    content = automation.model_dump(mode="json", include={"name", "enabled", "trigger", "actions"})
    trigger = {
        key: sorted(value) if isinstance(value, list) else value
        for key, value in content["trigger"].items()
        if key != "id"
    }
    return {**content, "trigger": trigger}


def main() -> None:
    """Run the set-up from the command line, against the server that PREFECT_API_URL names."""
    parser = argparse.ArgumentParser(description="Deploy the flows and their automations.")
    parser.add_argument("--pool", default=Wanted().pool)
    parser.add_argument("--entrypoint", default=Wanted().entrypoint)
    parser.add_argument("--concurrency", type=int, default=_at_once())
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    # httpx speaks of every request at that level.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    wanted = Wanted(pool=given.pool, entrypoint=given.entrypoint, concurrency=given.concurrency)
    made = asyncio.run(install(wanted))
    log.info("retrain.deployed id=%s", made)


def _at_once() -> int:
    """Return how many retrainings may run at once by the settings of the services' own folder."""
    folder = Path(os.environ.get("WHETSTONE_FOLDER", ""))
    return load_settings(folder).prefect.at_once if (folder / FILE_NAME).is_file() else Wanted().concurrency


if __name__ == "__main__":
    main()
