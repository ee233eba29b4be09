"""Choose by its tier in which of Prefect's work pools a run works: no smoke test waits behind a full one.

    event whetstone.labels.ready.<tier> --> deployment retrain/retrain-<tier> --> work pool whetstone-<tier>

The plan decides the tier in the end, once the snapshot is cut; for the pool it is told before, from the
recipe and the number of labelled images, and a run that turns out another stays where it is. An event without
a tier goes to `retrain/retrain` in the pool `whetstone`.
"""

from __future__ import annotations

from sqlalchemy import func, select

from flows.context import Context
from flows.database.schema import LabelRow
from trainer.planning.recipe import recipe_of, tier_of

POOL = "whetstone"
DEPLOYMENT = "retrain"
TIERS = ("smoke", "fine-tune", "full")


def pool_of(tier: str) -> str:
    """Return the work pool of a tier, the common one for ""."""
    return f"{POOL}-{tier}" if tier else POOL


def event_of(event: str, tier: str) -> str:
    """Return an event's name for a tier, the common one for ""."""
    return f"{event}.{tier}" if tier else event


def tier_now(ctx: Context, task_id: str) -> str:
    """Return the tier that a run of a task would have now."""
    task = ctx.settings.task(task_id)
    with ctx.database.reader() as session:
        query = select(func.count(LabelRow.sample_id.distinct())).where(LabelRow.task_id == task_id)
        labelled = session.scalar(query) or 0
    recipe = recipe_of(task.recipe.model_dump(mode="json"))
    return tier_of(recipe, round(labelled * (1.0 - task.val_share)))[0]
