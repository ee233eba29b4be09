"""Lay the tensors of a state end to end: a file of thousands of small ones is slow to write and to read.

A network has hundreds of tensors and its optimizer twice as many again. All is copied to the processor in its
logical order, so that a checkpoint takes nothing of a device's memory and fits any layout in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch

Flats = dict[str, torch.Tensor]


def flattened(tensors: Iterable[torch.Tensor]) -> Flats:
    """Return all values end to end, one tensor for each number format."""
    parts: dict[str, list[torch.Tensor]] = {}
    for one in tensors:
        parts.setdefault(str(one.dtype), []).append(one.detach().cpu().reshape(-1))
    return {kind: torch.cat(values) for kind, values in parts.items()}


def spread(flats: Flats, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the values as tensors of the shapes and formats of `like`: views of what lies end to end.

    Raises:
        ValueError: there are more or fewer values than those shapes hold.
    """
    at = dict.fromkeys(flats, 0)
    found = []
    for one in like:
        kind = str(one.dtype)
        begin = at.get(kind, 0)
        at[kind] = begin + one.numel()
        values = flats.get(kind, torch.empty(0))[begin : at[kind]]
        if len(values) != one.numel():
            raise ValueError(f"fewer values of {kind} than the network has")
        found.append(values.view(one.shape))
    if any(len(flats[kind]) != end for kind, end in at.items()):
        raise ValueError("more values than the network has")
    return found


def named(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], Flats]:
    """Return a network's tensors by name as views of what lies end to end, and that."""
    flats = flattened(weights.values())
    return dict(zip(weights, spread(flats, list(weights.values())), strict=True)), flats


def all_finite(flats: Flats) -> bool:
    """Say whether all of them are numbers."""
    return all(bool(torch.isfinite(one).all()) for one in flats.values() if one.is_floating_point())


def hash_of(weights: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names and values, in their order, wherever and in whatever layout they lie."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def optimizer_memory(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what an optimizer remembers of its parameters: for each kind, of which ones, and the values."""
    kinds: dict[str, tuple[list[int], list[torch.Tensor]]] = {}
    for number, parameter in enumerate(_parameters(optimizer)):
        for kind, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                numbers, values = kinds.setdefault(kind, ([], []))
                numbers.append(number)
                values.append(value)
    return {
        kind: {"of": numbers, "one": [value.ndim == 0 for value in values], "values": flattened(values)}
        for kind, (numbers, values) in kinds.items()
    }


def remember(optimizer: torch.optim.Optimizer, memory: dict[str, Any]) -> None:
    """Give an optimizer that memory, each tensor laid out as its parameter: kernels step on both at once.

    Raises:
        ValueError: it is that of other parameters.
    """
    parameters = _parameters(optimizer)
    optimizer.state.clear()
    for kind, kept in memory.items():
        form = next(iter(kept["values"].values())).dtype
        like = [
            torch.empty((), dtype=form) if one else parameters[number].to("meta", form)
            for number, one in zip(kept["of"], kept["one"], strict=True)
        ]
        for number, value in zip(kept["of"], spread(kept["values"], like), strict=True):
            parameter = parameters[number]
            optimizer.state[parameter][kind] = _laid_out(value, parameter, optimizer)


def _laid_out(value: torch.Tensor, parameter: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    if value.ndim == 0 and parameter.ndim:
        # Adam counts steps on the processor, unless one kernel on the device does all.
        on_device = optimizer.param_groups[0].get("fused") or optimizer.param_groups[0].get("capturable")
        return value.clone().to(parameter.device if on_device else "cpu")
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
