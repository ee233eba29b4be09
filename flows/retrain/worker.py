"""Serve every tier's work pool from one process: `python -m flows.retrain.worker --name N [--pool P ...]`.

Prefect's own command serves one pool; four of its processes would take four times the memory to wait. Where
tiers work on hosts of their own, `prefect worker start --pool whetstone-full --type process` does as well.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress

from flows.retrain.tiers import POOL, TIERS, pool_of

log = logging.getLogger("whetstone.retrain")


def main() -> None:
    """Serve until told to stop; runs that are under way go on to their end, as with Prefect's command."""
    parser = argparse.ArgumentParser(description="Serve work pools of Prefect from one process.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--pool", action="append", default=[])
    given = parser.parse_args()
    pools = given.pool or [POOL, *map(pool_of, TIERS)]
    from prefect.utilities.processutils import setup_signal_handlers_worker

    setup_signal_handlers_worker(os.getpid(), "the process worker", print)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(given.name, pools))


async def serve(name: str, pools: Sequence[str]) -> None:
    """Run a worker of each pool until cancelled."""
    from prefect.settings import PREFECT_WORKER_HEARTBEAT_SECONDS
    from prefect.workers.process import ProcessWorker

    heartbeat = int(PREFECT_WORKER_HEARTBEAT_SECONDS.value())
    workers = [
        ProcessWorker(work_pool_name=pool, name=name, heartbeat_interval_seconds=heartbeat) for pool in pools
    ]
    await asyncio.gather(*(worker.start(printer=log.info) for worker in workers))


if __name__ == "__main__":
    main()
