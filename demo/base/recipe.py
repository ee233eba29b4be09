"""Read the committed recipe of the first champion, and name the files it leaves in the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from demo.errors import BadAsset
from fleet_contracts import sha256_of
from fleet_contracts.samples import DecisionRules

MAX_WEIGHTS_BYTES = 6_000_000
"""Limit on the package file of the first champion."""
WEIGHTS = "demo-base.pt"
RECORD = "demo-base.json"
_RECIPE = "recipe.json"


class _Sheet(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class BaseRecipe(_Sheet):
    """Fix everything about the training of the first champion; parts are drawn from `seed`."""

    model: str
    image_size: Annotated[int, Field(ge=32, multiple_of=32)]
    seed: int
    train_parts: Annotated[int, Field(ge=1)]
    validation_parts: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    learning_rate: float
    final_lr_share: float
    augmentation: Literal["none", "light", "full"]
    augmentation_values: dict[str, float]
    threads: Annotated[int, Field(ge=0)]

    @property
    def validation_seed(self) -> int:
        """Return the seed of the parts on which thresholds are chosen."""
        return self.seed + 1

    @property
    def test_seed(self) -> int:
        """Return the seed of the parts on which recall is told; nothing is chosen on them."""
        return self.seed + 2


class BaseRecord(_Sheet):
    """Say what the package file is, how it was made, and how well it does on unseen parts."""

    sha256: str
    size_bytes: int
    class_names: tuple[str, ...]
    recipe: BaseRecipe
    decision_rules: DecisionRules
    recall_known: dict[str, float]
    """Recall at the operating threshold on unseen parts of the known mix, by kind and `all`."""
    recall_novel: dict[str, float]
    """The same on parts with the changed look and the new kind."""
    seconds: float
    """Wall-clock of the training."""
    versions: dict[str, str]


def read_recipe() -> BaseRecipe:
    """Read the committed recipe."""
    return BaseRecipe.model_validate_json((base_folder() / _RECIPE).read_bytes())


def base_folder() -> Path:
    """Return the folder of the recipe and the network's yaml."""
    return Path(str(files("demo.base")))


def assets_folder() -> Path:
    """Return the folder of the package files."""
    return Path(str(files("demo"))) / "assets"


def shipped_base(folder: Path | None = None) -> tuple[Path, BaseRecord]:
    """Return the first champion's weights and its record, the hash checked.

    Raises:
        BadAsset: a file is missing, or the weights are not the ones the record speaks of.
    """
    folder = folder or assets_folder()
    weights, record_file = folder / WEIGHTS, folder / RECORD
    for path in (weights, record_file):
        if not path.is_file():
            raise BadAsset(
                expected="the first champion",
                got="no such file",
                where=str(path),
                now="Run 'make demo-base'.",
            )
    record = BaseRecord.model_validate_json(record_file.read_bytes())
    found = sha256_of(weights.read_bytes())
    if found != record.sha256:
        raise BadAsset(
            expected=f"weights with SHA-256 {record.sha256}",
            got=found,
            where=str(weights),
            now="Check the file out again, or run 'make demo-base'.",
        )
    return weights, record
