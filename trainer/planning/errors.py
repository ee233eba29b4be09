"""Name what can be wrong with the wish for a plan."""

from __future__ import annotations

from trainer.errors import TrainerError


class NoOfferFits(TrainerError):
    """Tell that no offer has the memory, time or price; says by how much, and what the nearest plan is."""

    remedy = (
        "Choose a larger card, a smaller image size, more time or more money; then ask for the run again."
    )


class RecipeRefused(TrainerError):
    """Tell that a recipe contradicts itself."""

    remedy = "Mend the task's recipe in whetstone.toml; nothing was rented."
