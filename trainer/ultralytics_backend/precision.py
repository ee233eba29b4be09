"""Choose the number format of training, without the probe that would download a model."""

from __future__ import annotations

from typing import Literal

import torch
from ultralytics.engine import trainer as engine

Asked = Literal["auto", "fp32", "bf16", "fp16"]


def choose(asked: Asked, device: str) -> bool | str:
    """Return ultralytics' `amp` setting for a precision, and replace its probe by ours.

    `auto` is bf16 on cards that compute in it, fp16 on older ones, and fp32 on processors, where bf16 was
    measured to be no faster even with AVX512-BF16.
    """
    engine.check_amp = _trust_choice
    if asked == "fp32":
        return False
    if device == "cpu":
        # ultralytics refuses the word bf16 without CUDA, but plain autocast on a CPU is bf16.
        return asked == "bf16"
    if asked == "bf16" or (asked == "auto" and torch.cuda.is_bf16_supported(including_emulation=False)):
        return "bf16"
    return True


def _trust_choice(_model: object) -> bool:
    return True
