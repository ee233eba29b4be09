"""Trace one step of each optimizer on tensors that have sizes but no memory.

Its temporaries depend on parameters alone. On CUDA torch steps most optimizers with lists of all tensors
(foreach), which makes copies as large as the gradients; Adam's fused kernel makes none.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from ultralytics.engine.trainer import BaseTrainer

from trainer.ultralytics_backend.tracing.ledger import Ledger, key_of

FUSED = ("AdamW", "Adam")
TRACED = ("SGD", "MuSGD")
_STEPS_BEFORE = 1
"""The first step makes states; the ones after it are alike."""


def shadow_of(model: nn.Module) -> nn.Module:
    """Return a copy of a network whose tensors have no memory."""
    return copy.deepcopy(model).to("meta")


def trace_optimizer(shadow: Any, name: str) -> tuple[Ledger, float]:
    """Return what lives during a step, and how many copies of the trained weights the states take."""
    build: Any = BaseTrainer.build_optimizer
    optimizer = build(SimpleNamespace(args=SimpleNamespace(), data={}), shadow, name, 0.01, 0.9, 0.0005, 1000)
    for group in optimizer.param_groups:
        if "foreach" in group:
            group["foreach"] = True
    trained = [parameter for parameter in shadow.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    for _ in range(_STEPS_BEFORE):
        optimizer.step()
    states = [
        value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)
    ]
    held = sum(value.untyped_storage().nbytes() for value in states)
    grads = [parameter.grad for parameter in trained if parameter.grad is not None]
    ledger = Ledger({key_of(tensor) for tensor in (*shadow.parameters(), *grads, *states)})
    with ledger:
        ledger.enter("optimizer", "optimizer")
        optimizer.step()
    return ledger, held / max(sum(parameter.numel() * 4 for parameter in trained), 1)
