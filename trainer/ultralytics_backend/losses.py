"""Mask the classification loss of classes that an image's labels say nothing about (law 9).

An image labelled when the list had two classes may well show the third: training it as background would
teach the model to overlook the new class. Boxes of known classes train as always.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss

MASK_KEY = "class_mask"


class MaskedBce(nn.Module):
    """Be the element-wise loss ultralytics calls, times the batch's mask (images, 1, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.BCEWithLogitsLoss(reduction="none")
        self.mask: torch.Tensor | None = None

    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each anchor and class; exactly zero where the mask is."""
        loss = self.plain(scores, targets)
        return loss if self.mask is None else loss * self.mask


class MaskedDetectionLoss(v8DetectionLoss):
    """Be ultralytics' detection loss with the mask that the trainer puts into the batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bce = MaskedBce()

    def get_assigned_targets_and_loss(
        self, preds: Any, batch: dict[str, Any], **kwargs: Any
    ) -> tuple[Any, ...]:
        """Set the mask of this batch, then compute as ultralytics does."""
        self.bce.mask = batch.get(MASK_KEY)
        return super().get_assigned_targets_and_loss(preds, batch, **kwargs)


def masked_criterion(model: nn.Module) -> Any:
    """Return the criterion that fits the model's head, masked."""
    if getattr(model.model[-1], "one2one_cv2", None) is not None:
        return E2ELoss(model, loss_fn=MaskedDetectionLoss)
    return MaskedDetectionLoss(model)


def class_mask(known: list[int], classes: int) -> torch.Tensor | None:
    """Return a mask of ones and zeros (images, 1, classes), or None when every image knows every class."""
    if min(known) >= classes:
        return None
    return (torch.arange(classes)[None, None, :] < torch.tensor(known)[:, None, None]).float()
