"""Run a network's forward pass twice and print what each run made: on the processor under our cast rules, and
through CUDA's own dispatcher on tensors that have no memory.

Run as `python -m tests.trainer.vram.fake_cuda MODEL`; needs a torch built for CUDA, not a card.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from trainer.ultralytics_backend import environment

SIDE = 64


def main(model: str) -> int:
    """Print the counts of (operation, shape, bytes of an element) for both."""
    environment.prepare(Path(tempfile.mkdtemp()), threads=0, niceness=0)
    import torch

    from trainer.ultralytics_backend.models import build_model
    from trainer.ultralytics_backend.tracing.autocast import CudaAutocast

    environment.silence_ultralytics()
    if torch.version.cuda is None:
        print(json.dumps(None))
        return 0
    network: Any = build_model(model, ("a", "b")).to(memory_format=torch.channels_last).train()
    images = torch.zeros(2, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    with CudaAutocast():
        ours = made_by(copy.deepcopy(network), images)
    print(json.dumps([sorted(ours.items()), sorted(_on_cuda(network).items())]))
    return 0


def made_by(network: Any, images: Any) -> Counter[str]:
    """Return what a forward pass makes; copies that only change the order of elements are left out."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from trainer.ultralytics_backend.tracing.ledger import key_of

    kept: list[Any] = [network, images]
    seen = {key_of(one) for one in (*network.parameters(), *network.buffers(), images)}
    found: Counter[str] = Counter()

    class Log(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            # CUDA normalises with cuDNN and keeps its scratch beside the same three outputs.
            name = str(func).replace("cudnn_batch_norm", "native_batch_norm")
            for one in tree_leaves(result):
                if isinstance(one, torch.Tensor) and one.numel() and key_of(one) not in seen:
                    kept.append(one)
                    seen.add(key_of(one))
                    if "clone" not in name:
                        found[f"{name} {tuple(one.shape)} {one.element_size()}"] += 1
            return result

    with Log():
        network(images)
    return found


def _on_cuda(network: Any) -> Counter[str]:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in network.modules():
            for name, one in list(module.named_parameters(recurse=False)):
                empty = torch.empty_strided(one.size(), one.stride(), device="cuda")
                setattr(module, name, torch.nn.Parameter(empty, requires_grad=one.requires_grad))
            for name, one in list(module.named_buffers(recurse=False)):
                setattr(module, name, torch.empty(one.shape, dtype=one.dtype, device="cuda"))
        images = torch.empty(2, 3, SIDE, SIDE, device="cuda", memory_format=torch.channels_last)
        # `torch.autocast` asks for a card; these are the switches it would throw.
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        torch.set_autocast_cache_enabled(True)
        return made_by(network, images)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
