"""The first champion: the package file is what its record says, and the line is neither too easy nor too hard."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from demo.base.data import base_items
from demo.base.recipe import MAX_WEIGHTS_BYTES, RECORD, WEIGHTS, assets_folder, read_recipe, shipped_base
from demo.base.train import base_job
from demo.errors import BadAsset
from demo.line.script import FIRST_CLASSES
from demo.measure import PartSet, by_kind, measure_recall
from trainer.backend import export_weights


def test_package_file_is_the_one_of_the_record() -> None:
    """Hash, size, classes and recipe of the shipped weights are those that were recorded."""
    weights, record = shipped_base()
    assert weights.stat().st_size == record.size_bytes <= MAX_WEIGHTS_BYTES
    assert record.class_names == FIRST_CLASSES
    assert record.recipe == read_recipe()
    assert {rule.name for rule in record.decision_rules.classes} == set(FIRST_CLASSES)


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    """Weights that are not the recorded ones are refused with both hashes."""
    for name in (WEIGHTS, RECORD):
        shutil.copy(assets_folder() / name, tmp_path / name)
    with (tmp_path / WEIGHTS).open("ab") as file:
        file.write(b"!")
    with pytest.raises(BadAsset, match=r"demo-base\.pt: expected weights with SHA-256"):
        shipped_base(tmp_path)


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    """Without the package file the error says how to make it."""
    with pytest.raises(BadAsset, match="make demo-base"):
        shipped_base(tmp_path)


def test_difficulty_is_fixed(tmp_path: Path) -> None:
    """The shipped champion finds most of what it knows and little of what changed; else the demo shows nothing."""
    weights, record = shipped_base()
    onnx = export_weights(weights, FIRST_CLASSES, record.recipe.image_size, tmp_path / "export").onnx
    assert onnx is not None
    known = by_kind(measure_recall(onnx, record.decision_rules, PartSet("known", record.recipe.test_seed, 400)))
    novel = by_kind(measure_recall(onnx, record.decision_rules, PartSet("novel", record.recipe.test_seed, 200)))
    assert 0.85 <= known["all"] <= 0.97
    assert novel["all"] < 0.4
    assert novel["scratch"] < 0.4, "the changed look must be new to it, not only the new kind"
    assert known == pytest.approx(record.recall_known, abs=0.005), "the record must tell what is measured"


def test_recipe_draws_the_same_parts() -> None:
    """The training data are a function of the recipe."""
    first, second = list(base_items(11, 3)), list(base_items(11, 3))
    assert [item.image for item in first] == [item.image for item in second]
    assert all(item.known_classes == len(FIRST_CLASSES) for item in first)


def test_job_is_the_recipe(tmp_path: Path) -> None:
    """What the trainer is asked for is what the recipe says."""
    recipe = read_recipe()
    job = base_job(recipe, tmp_path / "data", tmp_path / "out")
    assert (job.epochs, job.batch, job.image_size, job.seed) == (
        recipe.epochs, recipe.batch, recipe.image_size, recipe.seed,
    )  # fmt: skip
    assert Path(job.start).name == recipe.model
    assert Path(job.start).is_file()


def test_the_shipped_weights_name_no_machine() -> None:
    """A package file says nothing of the folders of whoever made it."""
    weights, _ = shipped_base()
    with zipfile.ZipFile(weights) as archive:
        pickled = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".pkl"))
    assert re.findall(rb"/[\w.-]+/[\w./-]*\.(?:yaml|pt|py)\b", pickled) == []
