"""Write and read a complete checkpoint: everything a run needs to go on as if nothing had happened.

Live weights, EMA at full precision, optimizer, scaler, epoch, random states; tensors and
plain values only, so that reading one runs no code (`weights_only=True`).
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils.torch_utils import unwrap_model

from trainer.backend_job import write_whole

FORMAT = 1


def save_checkpoint(path: Path, trainer: Any, fingerprint: str, told: str = "") -> None:
    """Write the trainer's state after its epoch, whole or not at all.

    Args:
        path: file to replace.
        trainer: ultralytics' trainer, between two epochs.
        fingerprint: names the job; a checkpoint of another job is not continued.
        told: the line about this epoch that is written next; kept so that a death in between loses it not.
    """
    buffer = io.BytesIO()
    torch.save({**_state(trainer, fingerprint), "told": told}, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Read a checkpoint, or return None when there is none that this job could continue."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, ImportError, AttributeError):
        return None
    except Exception as error:  # torch's unpickling error is not public under one stable name
        if type(error).__name__ != "UnpicklingError":
            raise
        return None
    fits = state.get("format") == FORMAT and state.get("fingerprint") == fingerprint
    return state if fits else None


def restore(trainer: Any, state: dict[str, Any]) -> None:
    """Put a checkpoint's state into a trainer that has been set up but has not stepped."""
    unwrap_model(trainer.model).load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["ema"])
    trainer.ema.updates = state["updates"]
    trainer.optimizer.load_state_dict(state["optimizer"])
    if state["scaler"]:
        trainer.scaler.load_state_dict(state["scaler"])
    criterion = unwrap_model(trainer.model).criterion
    if hasattr(criterion, "updates"):
        criterion.updates = state["epoch"]
        criterion.update()
    trainer.start_epoch = state["epoch"] + 1
    _restore_random(state["random"])


def _state(trainer: Any, fingerprint: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "epoch": trainer.epoch,
        "model": unwrap_model(trainer.model).state_dict(),
        "ema": trainer.ema.ema.state_dict(),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "random": _random_states(),
    }


def _random_states() -> dict[str, Any]:
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random(states: dict[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
