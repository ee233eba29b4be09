"""Put work pool, deployment `retrain/retrain` and automations on a Prefect server; doing it twice is once.

`prefect.yaml` says the same for those who deploy by hand (`prefect deploy --all`); a test keeps both alike.
The deployment names a module, not a path, so it needs no pull step wherever the package is installed. It
names no working directory either: Prefect copies whatever lies in it for each run.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.retrain.automations import crashed_runs, labels_ready, lost_runs

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.automations import AutomationCore
    from prefect.client.orchestration import PrefectClient

log = logging.getLogger("whetstone.retrain")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what to deploy: `entrypoint` is `package.module.flow`."""

    entrypoint: str = "flows.retrain.flow.retrain"
    deployment: str = "retrain"
    pool: str = "whetstone"
    concurrency: int = 1


async def install(wanted: Wanted) -> UUID:
    """Make pool, deployment and automations as wanted; return the deployment's id."""
    from prefect import get_client

    async with get_client() as client:
        await _make_pool(client, wanted.pool)
        deployment_id = await _make_deployment(client, wanted)
        for automation in (labels_ready(deployment_id), lost_runs(), crashed_runs(deployment_id)):
            await _make_automation(client, automation)
    return deployment_id


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


async def _make_deployment(client: PrefectClient, wanted: Wanted) -> UUID:
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
    from prefect.utilities.callables import parameter_schema

    flow = load_flow(wanted.entrypoint)
    flow_id = await client.create_flow_from_name(flow.name)
    options = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    return await client.create_deployment(
        flow_id=flow_id,
        name=wanted.deployment,
        description="Retrain a task's model on its verified labels, judge it, sign it and roll it out.",
        entrypoint=wanted.entrypoint,
        work_pool_name=wanted.pool,
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
    parser = argparse.ArgumentParser(description="Deploy the retrain flow and its automations.")
    parser.add_argument("--pool", default=Wanted().pool)
    parser.add_argument("--entrypoint", default=Wanted().entrypoint)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    # httpx speaks of every request at that level.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    made = asyncio.run(install(Wanted(pool=given.pool, entrypoint=given.entrypoint)))
    log.info("retrain.deployed id=%s", made)


if __name__ == "__main__":
    main()
