"""Know how many processes train together, and agree among them; one process alone needs no words.

`torchrun` names them by environment variables; the first one alone writes events, checkpoints and results.
"""

from __future__ import annotations

import datetime
import os
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from ultralytics.utils.torch_utils import TORCH_2_13

_PATIENCE = datetime.timedelta(hours=1)
"""How long others wait for the first one, which validates and writes; a dead one is noticed by torchrun."""


def world() -> int:
    """Return the number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Return the number of this process's device on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Say whether this is the process that writes."""
    return rank() == 0


def join(*, cuda: bool) -> None:
    """Meet the other processes, if there are any."""
    if world() == 1 or distributed.is_initialized():
        return
    if cuda:
        torch.cuda.set_device(local_rank())
    distributed.init_process_group(
        "nccl" if cuda else "gloo", timeout=_PATIENCE, rank=rank(), world_size=world()
    )


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world() > 1:
        nccl = distributed.get_backend() == "nccl"
        distributed.barrier(device_ids=[local_rank()] if nccl else None)


def leave() -> None:
    """Part from the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def wrapped(model: Any, device: torch.device, *, compiled: bool) -> Any:
    """Return the model with gradients that are the mean over all processes; all begin as the first one's."""
    if world() == 1:
        return model
    buffers = {"forward_sync_buffers" if TORCH_2_13 else "broadcast_buffers": False}
    return DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=not compiled, static_graph=compiled, **buffers,
    )  # fmt: skip


def is_wrapped(model: Any) -> bool:
    """Say whether `wrapped` wrapped it."""
    return isinstance(model, DistributedDataParallel)


def any_says(flag: torch.Tensor) -> bool:
    """Say whether a flag is set in any process; waits for the device."""
    if world() == 1:
        return bool(flag)
    counted = flag.to(torch.int32)
    distributed.all_reduce(counted)
    return bool(counted > 0)


def are_alike(model: Any) -> bool:
    """Say whether all processes hold the same weights: what each must, since they take the same steps."""
    if world() == 1:
        return True
    own = torch.stack([one.detach().double().sum() for one in model.parameters()])
    others = [torch.empty_like(own) for _ in range(world())]
    distributed.all_gather(others, own)
    return all(torch.equal(one, own) for one in others)


def shared(here: Any) -> Any:
    """Return what the first process holds, a small plain value."""
    if world() == 1:
        return here
    told = [here]
    distributed.broadcast_object_list(told, src=0)
    return told[0]


def agree(here: bool, device: torch.device) -> bool:  # noqa: FBT001 - the one thing that is told
    """Return what the first process says."""
    if world() == 1:
        return here
    told = torch.tensor([int(here)], device=device)
    distributed.broadcast(told, src=0)
    return bool(told.item())
