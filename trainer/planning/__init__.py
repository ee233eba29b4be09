"""Plan a run before anything is rented: which card, which batch, how long, how much, and why.

    plan = make_plan(PlanInputs(..., offers=offers, recipe=Recipe(image_size=640, batch=64)))
    plan.stages, plan.considered, plan.predicted

Pure: the caller gathers snapshot, offers, finished runs and the network's profile (`flows.planning`).
"""

from trainer.planning.errors import NoOfferFits, RecipeRefused
from trainer.planning.inputs import Finished, Limits, Network, PlanInputs, SnapshotSize
from trainer.planning.plan import make_plan
from trainer.planning.recipe import Recipe, StageWish, recipe_of

__all__ = [
    "Finished",
    "Limits",
    "Network",
    "NoOfferFits",
    "PlanInputs",
    "Recipe",
    "RecipeRefused",
    "SnapshotSize",
    "StageWish",
    "make_plan",
    "recipe_of",
]
