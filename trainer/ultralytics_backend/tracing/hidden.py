"""Say what a CUDA kernel takes for itself while it runs, which no trace on a processor shows.

These are bounds from the kernels' sources, not measurements; a calibration scales what counts as workspace.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch

_PARTS = 4
"""Into how many parts of the batch the gradient of a weight is thought to be split."""


def hidden_bytes(name: str, args: tuple[Any, ...], outputs: list[torch.Tensor]) -> tuple[str, int] | None:
    """Return the term and bytes that an operation takes and gives back, or None.

    Args:
        name: the operation, `aten.convolution.default`.
        args: what it was called with.
        outputs: the tensors it returned.
    """
    if name.startswith("aten.convolution.default"):
        return _forward_workspace(args[0], args[1])
    if name.startswith("aten.convolution_backward"):
        return _backward_workspace(args[2], outputs)
    if name.startswith("aten.binary_cross_entropy_with_logits"):
        # (1 - target) * input - log_sigmoid(input): the last is a tensor of its own beside the result.
        return "loss", _bytes(args[0])
    return None


def _forward_workspace(image: torch.Tensor, weight: torch.Tensor) -> tuple[str, int] | None:
    channels = image.shape[1]
    aligned = 16 // image.element_size()
    if channels % aligned == 0 or weight.shape[1] == 1:
        return None
    # cuDNN's tensor core kernels for NHWC read channels 16 bytes at a time and pad what is not aligned.
    padded = -(-channels // aligned) * aligned
    return "workspace", prod((image.shape[0], *image.shape[2:])) * padded * image.element_size()


def _backward_workspace(weight: torch.Tensor, outputs: list[torch.Tensor]) -> tuple[str, int] | None:
    """Bound the gradient of the weights: partial sums in full precision, over a few parts of the batch."""
    if weight.shape[1] == 1 or len(outputs) < 2:
        return None
    return "workspace", weight.numel() * 4 * _PARTS


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * max(tensor.element_size(), 4)
