"""Grow heads and mask losses: labels under a short list must not teach that a new class is background."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.conftest import job_for
from tests.trainer.scenes import NAMES, items
from trainer.backend import run_child
from trainer.backend_job import BackendEvent, BackendResult
from trainer.dataset import DatasetItem, write_dataset

THREE = (*NAMES, "stain")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the fenced modules, imported as the child imports them: tame first."""
    folder = tmp_path_factory.mktemp("settings")
    os.environ.update(YOLO_AUTOINSTALL="False", YOLO_OFFLINE="1", YOLO_CONFIG_DIR=str(folder), YOLO_VERBOSE="False",
                      ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS="1")  # fmt: skip
    from trainer.ultralytics_backend import losses, models

    return models, losses


def test_old_rows_of_a_grown_head_are_kept_to_the_bit(
    backend: Any, trained: tuple[BackendResult, list[BackendEvent]]
) -> None:
    """A head grown for an added class gives the old classes exactly the scores they had."""
    models, _ = backend
    start = str(trained[0].weights)
    old, new = models.build_model(start, NAMES).eval(), models.build_model(start, THREE).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = old(image)[0], new(image)[0]
    assert after.shape[1] == before.shape[1] + 1
    assert torch.allclose(after[:, : before.shape[1]], before, atol=1e-5)  # one GEMM of another size
    for grown, head in zip(new.model[-1].cv3, old.model[-1].cv3, strict=True):
        assert torch.equal(grown[-1].weight[:2], head[-1].weight)
        assert torch.equal(grown[-1].bias[:2], head[-1].bias)
    assert float(after[:, -1].max()) < 0.05


def test_a_masked_class_gets_no_gradient(
    backend: Any, trained: tuple[BackendResult, list[BackendEvent]]
) -> None:
    """The added class's row learns nothing from an image that was labelled before it existed."""
    models, losses = backend
    from ultralytics.cfg import get_cfg

    gradients = {}
    for known in (2, 3):
        model = models.build_model(str(trained[0].weights), THREE).train()
        model.args = get_cfg(overrides={"model": "unused.yaml"})
        model.criterion = losses.masked_criterion(model)
        batch = {
            "img": torch.rand(2, 3, 64, 64), "batch_idx": torch.tensor([0.0, 1.0]),
            "cls": torch.tensor([[0.0], [1.0]]), "bboxes": torch.tensor([[0.5, 0.5, 0.3, 0.3]] * 2),
            "class_mask": losses.class_mask([known, known], 3),
        }  # fmt: skip
        loss, _ = model.loss(batch)
        loss.sum().backward()
        gradients[known] = torch.stack(
            [head[-1].weight.grad.abs().sum((1, 2, 3)) for head in model.model[-1].cv3]
        )
    assert torch.all(gradients[2][:, 2] == 0)
    assert torch.all(gradients[2][:, :2] > 0)
    assert torch.all(gradients[3][:, 2] > 0)


@pytest.mark.parametrize(
    ("known", "expected"),
    [([3, 3], None), ([2, 3], [[1, 1, 0], [1, 1, 1]]), ([1, 2], [[1, 0, 0], [1, 1, 0]])],
)
def test_the_mask_follows_each_images_own_list(
    backend: Any, known: list[int], expected: list[list[int]] | None
) -> None:
    """A mask is needed only when an image's list is shorter, and then speaks for that image alone."""
    mask = backend[1].class_mask(known, 3)
    assert (mask is None) if expected is None else mask.squeeze(1).tolist() == expected


def test_a_mixed_snapshot_trains_from_a_smaller_champion(
    trained: tuple[BackendResult, list[BackendEvent]], tmp_path: Path
) -> None:
    """A champion of two classes starts a run for three on images of both lists."""
    old = items(8, val=2)
    new = [
        DatasetItem(f"new-{one.name}", one.image, one.boxes, 3, one.split)
        for one in items(4, val=0, first=50)
    ]
    folder = write_dataset(tmp_path / "mixed", THREE, [*old, *new])
    assert folder.masked_images == 6
    result = run_child(job_for(folder, tmp_path / "out", start=str(trained[0].weights), epochs=1))
    assert result.class_names == THREE
    assert result.input_spec is not None


def test_masking_an_end_to_end_head_masks_both_branches(backend: Any) -> None:
    """A head with two branches has both its losses masked."""
    models, losses = backend
    from ultralytics.cfg import get_cfg

    model = models.build_model("yolov10n.yaml", THREE)
    model.args = get_cfg(overrides={"model": "unused.yaml"})
    criterion = losses.masked_criterion(model)
    assert isinstance(criterion.one2many, losses.MaskedDetectionLoss)
    assert isinstance(criterion.one2one, losses.MaskedDetectionLoss)
