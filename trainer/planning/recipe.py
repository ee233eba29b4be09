"""Say what a person decides about training, and what the recipes' names mean; pure.

fine-tune          one stage at the target size; any name not listed here means the same
fine-tune-frozen   as fine-tune, with the backbone's first layers kept as they are
full               heavy augmentation for most epochs, the recipe's own for the last ones
progressive        half the image size, then three quarters, then the target; heavy first, light last
smoke              one epoch over a few images: does it run at all?

>>> [(one.image_size, one.epochs, one.augmentation) for one in stages_of(Recipe("progressive", epochs=10))]
[(160, 4, 'heavy'), (256, 3, 'heavy'), (320, 3, 'light')]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from fleet_contracts.training import MemoryPolicy, Precision, WatchPolicy
from trainer.planning.errors import RecipeRefused

Augmentation = Literal["none", "light", "full", "heavy"]
Cache = Literal["none", "ram", "disk"]
Tier = Literal["smoke", "fine-tune", "full"]

BACKBONE_LAYERS = 10
"""Layers before the neck in the detection models of ultralytics; later ones have up to 11."""
SMOKE_IMAGES = 64
FULL_IMAGES = 20_000
"""Training images from which a run counts as a full training, whatever its recipe is called."""
_GRID = 32
_SHARES: dict[str, tuple[tuple[float, float, bool], ...]] = {
    "full": ((1.0, 0.85, True), (1.0, 0.15, False)),
    "progressive": ((0.5, 0.4, True), (0.75, 0.3, True), (1.0, 0.3, False)),
}
"""Share of the image size, share of the epochs, and whether augmentation is heavy, stage by stage.

MosaicML Composer begins at half the size and gives the full size the last fifth of a run. Small defects
suffer most from small images, so here the target size gets more of it.
"""


@dataclass(frozen=True, slots=True)
class StageWish:
    """Train some epochs at one image size (pixels) with one level of augmentation."""

    image_size: int
    epochs: int
    augmentation: Augmentation = "light"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hold what a person decides about training.

    `batch` is the effective batch: what one step of the optimizer sees, over all devices and accumulated
    steps. `stages` replaces what the name says. `cache` is the most that is cached. `workers` None and
    `threads` 0 leave the choice to the planner.
    """

    name: str = "fine-tune"
    tier: Literal["auto", "smoke", "fine-tune", "full"] = "auto"
    epochs: int = 12
    batch: int = 16
    learning_rate: float = 1e-3
    final_lr_share: float = 0.05
    image_size: int = 320
    stages: tuple[StageWish, ...] = ()
    freeze_layers: int = 0
    augmentation: Augmentation = "light"
    optimizer: str = "AdamW"
    seed: int = 0
    threads: int = 0
    workers: int | None = None
    cache: Cache = "ram"
    amp: bool = True
    compile: Literal["off", "auto", "on"] = "off"
    deterministic: bool = False
    validate_every: int = 0
    checkpoint_minutes: float = 0.0
    memory: MemoryPolicy = field(default_factory=MemoryPolicy)
    watch: WatchPolicy = field(default_factory=WatchPolicy)
    precisions: tuple[Precision, ...] = ("fp32",)
    format_seconds: float = 45.0


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """Read a recipe from JSON values; keys that are not the planner's are left out."""
    names = {one.name for one in fields(Recipe)}
    known = {name: value for name, value in values.items() if name in names and value is not None}
    if "stages" in known:
        known["stages"] = tuple(StageWish(**one) for one in known["stages"])
    if "precisions" in known:
        known["precisions"] = tuple(known["precisions"])
    for name, kind in (("memory", MemoryPolicy), ("watch", WatchPolicy)):
        if name in known:
            known[name] = kind.model_validate(known[name])
    return Recipe(**known)


def tier_of(recipe: Recipe, train_images: int) -> tuple[Tier, str]:
    """Return what kind of training this is, and why: said by the recipe, or by the size of the snapshot."""
    if recipe.tier != "auto":
        return recipe.tier, f"tier {recipe.tier}: the recipe says so"
    if recipe.name in ("smoke", "full"):
        return cast("Tier", recipe.name), f"tier {recipe.name}: by the recipe's name"
    if train_images >= FULL_IMAGES:
        return "full", f"tier full: {train_images} training images, {FULL_IMAGES} or more"
    return "fine-tune", f"tier fine-tune: {train_images} training images, fewer than {FULL_IMAGES}"


def stages_of(recipe: Recipe) -> tuple[StageWish, ...]:
    """Return the stages of a recipe, the target size last.

    Raises:
        RecipeRefused: stages were given that do not end at the recipe's image size.
    """
    if recipe.stages:
        _require_target_last(recipe)
        return recipe.stages
    whole = StageWish(recipe.image_size, recipe.epochs, recipe.augmentation)
    if recipe.name == "smoke" or recipe.tier == "smoke":
        return (StageWish(recipe.image_size, 1, recipe.augmentation),)
    shares = _SHARES.get(recipe.name)
    if shares is None:
        return (whole,)
    epochs = split_epochs(recipe.epochs, tuple(share for _, share, _ in shares))
    return tuple(
        StageWish(_on_grid(recipe.image_size * size), count, "heavy" if heavy else recipe.augmentation)
        for (size, _, heavy), count in zip(shares, epochs, strict=True)
        if count > 0
    )


def frozen_layers_of(recipe: Recipe) -> int:
    """Return how many layers stay as they are."""
    if recipe.name == "fine-tune-frozen" and recipe.freeze_layers == 0:
        return BACKBONE_LAYERS
    return recipe.freeze_layers


def split_epochs(epochs: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    """Split epochs by shares, the sum kept; with too few for all, the later parts come first.

    >>> split_epochs(10, (0.4, 0.3, 0.3)), split_epochs(2, (0.4, 0.3, 0.3))
    ((4, 3, 3), (0, 1, 1))
    """
    given = [max(int(epochs * share), 1) for share in shares]
    given[0] += epochs - sum(given)
    for index in range(len(given) - 1):
        if given[index] < 0:
            given[index + 1] += given[index]
            given[index] = 0
    return tuple(given)


def _on_grid(size: float) -> int:
    """Return the nearest size that every stride divides; halves go up, small things need pixels."""
    return max(int(size / _GRID + 0.5) * _GRID, _GRID)


def _require_target_last(recipe: Recipe) -> None:
    last = recipe.stages[-1].image_size
    if last != recipe.image_size:
        raise RecipeRefused(
            expected=f"a last stage at the recipe's image size, {recipe.image_size} px",
            got=f"{last} px",
            where=f"recipe {recipe.name}",
            now="What ships is exported at the target size, so the last stage has to train at it.",
        )
