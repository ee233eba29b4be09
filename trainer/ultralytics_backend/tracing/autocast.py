"""Cast on a processor as CUDA's autocast does, whose lists differ from the processor's own.

From ATen/autocast_mode.h, what detection networks call: matrix products and convolutions run in half,
resizing, powers, softmax, sums and losses in full precision. The copies this makes are what a trace is
for: weights are copied once a step, and the neck is in full precision from an upsampling to the next
convolution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_HALF = {
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "prelu",
    "addmm", "addmv", "addr", "matmul", "__matmul__", "__rmatmul__", "einsum", "mm", "mv", "linear",
    "addbmm", "baddbmm", "bmm", "chain_matmul", "scaled_dot_product_attention",
}  # fmt: skip
_FULL = {
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal",
    "rsqrt", "sinh", "tan", "pow", "__pow__", "__rpow__", "softplus", "layer_norm", "rms_norm", "group_norm",
    "cosine_similarity", "nll_loss", "kl_div", "l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss",
    "soft_margin_loss", "binary_cross_entropy_with_logits", "cross_entropy", "cdist", "dist", "logsumexp",
    "interpolate", "norm", "upsample_nearest2d", "upsample_bilinear2d",
}  # fmt: skip
_FULL_RESULT = {"prod", "softmax", "log_softmax", "cumprod", "cumsum", "sum"}
_PROMOTE = {
    "addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sample", "index_put", "scatter_add",
}  # fmt: skip


class CudaAutocast(TorchFunctionMode):
    """Be CUDA's autocast for tensors on a processor; its half is bfloat16, and fp16 is as large."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[int, torch.Tensor] = {}

    def __exit__(self, *told: Any) -> None:
        """Leave, and let go of the copied weights as autocast does."""
        self._copies.clear()
        super().__exit__(*told)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Cast what the lists say, then call."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _HALF:
            return func(*[self._half(one) for one in args], **{k: self._half(v) for k, v in kwargs.items()})
        if name in _FULL:
            return func(*[_full(one) for one in args], **{k: _full(v) for k, v in kwargs.items()})
        if name in _FULL_RESULT and "dtype" not in kwargs and args and _is_half(args[0]):
            return func(*args, **kwargs, dtype=torch.float32)
        if name in _PROMOTE and any(_is_float(one) for one in args):
            return func(*[_full(one) for one in args], **kwargs)
        return func(*args, **kwargs)

    def _half(self, value: Any) -> Any:
        if not _is_float(value):
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(torch.bfloat16)
        if id(value) not in self._copies:
            self._copies[id(value)] = value.to(torch.bfloat16)
        return self._copies[id(value)]


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _is_half(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16


def _full(value: Any) -> Any:
    return value.float() if _is_half(value) else value
