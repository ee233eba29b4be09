"""Write down every storage that operations make: its bytes, the operation it came with, when it was freed."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.ultralytics_backend.tracing.hidden import hidden_bytes

LIVES_ON = 1 << 60
"""Where a block is still alive when the ledger closes."""


@dataclass(slots=True)
class Life:
    """Hold one storage's life: operation numbers of birth and death, its bytes, what it counts as.

    `place` tells births of one operation apart: the output's number, or minus one for what the CUDA
    kernel takes for itself and gives back.
    """

    born: int
    place: int
    size: int
    term: str
    died: int = LIVES_ON


class Ledger(TorchDispatchMode):
    """Keep the account of one step while it is the active mode.

    Storages are followed by weak references to their Python objects, which torch keeps for as long as the
    storage lives; what autograd saves dies when its node lets go.

    Args:
        weights: storages of parameters; a copy of one counts as weights.
    """

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.operations: list[str] = []
        self.lives: list[Life] = []
        self.marks: list[tuple[str, int]] = []
        self.chosen: list[tuple[int, int]] = []
        """For each `nonzero`: dimensions of what was searched, and how many were found."""
        self._weights = weights
        self._term = "activations"
        self._alive: dict[int, tuple[weakref.ref[Any], Life]] = {}

    def enter(self, moment: str, term: str) -> None:
        """Begin a moment of the step; what is born in it counts as `term`."""
        self.marks.append((moment, len(self.operations)))
        self._term = term

    def life_of(self, tensor: torch.Tensor) -> Life | None:
        """Return what is known of a tensor's storage, if it was born under this ledger."""
        found = self._alive.get(key_of(tensor))
        return found[1] if found is not None else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and write down what it made."""
        number = len(self.operations)
        name = str(func)
        self.operations.append(name)
        result = _run(func, name, args, kwargs or {})
        term = self._term
        if name.startswith("aten._to_copy") and key_of(args[0]) in self._weights:
            term = "weights"
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        for place, tensor in enumerate(outputs):
            self._note(tensor, number, place, term)
        taken = hidden_bytes(name, args, outputs)
        if taken is not None:
            self.lives.append(Life(number, -1, taken[1], taken[0], number))
        if name.startswith("aten.nonzero"):
            self.chosen.append((args[0].dim(), int(result.shape[0])))
        return result

    def _note(self, tensor: torch.Tensor, number: int, place: int, term: str) -> None:
        storage = tensor.untyped_storage()
        key = key_of(tensor)
        if key in self._alive or key in self._weights or not storage.nbytes():
            return
        life = Life(number, place, storage.nbytes(), term)
        self.lives.append(life)
        self._alive[key] = (weakref.ref(storage, lambda _gone: self._end(key, life)), life)

    def _end(self, key: int, life: Life) -> None:
        life.died = len(self.operations) - 1
        known = self._alive.get(key)
        if known is not None and known[1] is life:
            del self._alive[key]


def key_of(tensor: torch.Tensor) -> int:
    """Return what tells a living storage from every other, also where it has no memory."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - torch's own trackers use it too


def _run(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Run an operation; convolutions of halves are computed in full precision, three times faster here."""
    if not name.startswith("aten.convolution") or args[0].dtype != torch.bfloat16:
        return func(*args, **kwargs)
    wide = [one.float() if _is_half(one) else one for one in args]
    result = func(*wide, **kwargs)
    if isinstance(result, torch.Tensor):
        return result.to(torch.bfloat16)
    return tuple(one.to(torch.bfloat16) if isinstance(one, torch.Tensor) else one for one in result)


def _is_half(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16
