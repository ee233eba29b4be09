"""Start the boxes as processes of their own, and wait until they serve the first release."""

from __future__ import annotations

import time

from demo.errors import StationStuck
from demo.loop.floor import Keeper, agent_service, box_folder, write_agent_config
from demo.loop.glance import look
from demo.loop.settings import LoopSettings
from demo.loop.stations import box_addresses
from flows.context import Context

BOXES_SECONDS = 180.0
_POLL = 0.3


def start_boxes(ctx: Context, settings: LoopSettings) -> Keeper:
    """Write every box's configuration and return the keeper that runs them, to be entered."""
    addresses = box_addresses(ctx, settings.devices)
    agents = []
    for device in settings.devices:
        folder = box_folder(ctx.folder, device)
        write_agent_config(folder, device, settings, addresses)
        agents.append(agent_service(folder, device))
    return Keeper(ctx.folder / "demo" / "boxes", tuple(agents))


def await_first_release(ctx: Context, settings: LoopSettings) -> int:
    """Wait until every box serves the same release, and return its number.

    Raises:
        StationStuck: a box does not come that far in time.
    """
    deadline = time.monotonic() + BOXES_SECONDS
    while True:
        glance = look(ctx, settings.task_id)
        oldest = glance.oldest_version(settings.devices)
        if oldest > 0 and glance.all_serve(settings.devices, oldest):
            return oldest
        if time.monotonic() > deadline:
            problems = {name: report.problem for name, report in glance.devices.items()}
            raise StationStuck(
                expected=f"every box serving the first release within {BOXES_SECONDS:.0f} s",
                got=f"{problems or 'no box heard of'}",
                where=str(ctx.folder / "demo" / "boxes" / "logs"),
                now="Read the boxes' logs there.",
            )
        time.sleep(_POLL)
