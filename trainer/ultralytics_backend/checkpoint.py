"""Write and read a complete checkpoint: everything a run needs to go on as if nothing had happened.

Live weights, EMA at full precision, optimizer, scaler, place in the epoch, random states; tensors and
plain values only, so that reading one runs no code (`weights_only=True`). It is written right after a step
of the optimizer, so that no gradient is pending.
"""

from __future__ import annotations

import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.utils.torch_utils import unwrap_model

from trainer.backend_job import CHECKPOINT_FILE, PREVIOUS_FILE
from trainer.memory import recognise
from trainer.ultralytics_backend.packing import (
    all_finite,
    flattened,
    hash_of,
    named,
    optimizer_memory,
    remember,
    spread,
)

FORMAT = 2
State = dict[str, Any]


class CheckpointRefused(Exception):
    """Tell that a file is no checkpoint that this job could continue; the message says why."""


def save_checkpoint(folder: Path, state: State) -> None:
    """Write a checkpoint and keep the one before it.

    (1) Write beside, to the disk. (2) Read it back, every byte. (3) Keep the old one under its second name.
    (4) Take its place. A death at any moment leaves one whole checkpoint or more.

    Raises:
        OSError: it could not be written; the old ones are as they were.
        CheckpointRefused: what was written cannot be read back; likewise.
    """
    path = folder / CHECKPOINT_FILE
    fresh = path.with_name(path.name + ".part")
    try:
        # (1)
        with fresh.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        # (2)
        read_checkpoint(fresh, state["fingerprint"])
    except BaseException:
        fresh.unlink(missing_ok=True)  # on a full disk it would keep the disk full
        raise
    # (3)
    if path.is_file():
        _keep_as_previous(path)
    # (4)
    fresh.replace(path)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _keep_as_previous(path: Path) -> None:
    previous = path.with_name(PREVIOUS_FILE)
    second = path.with_name(PREVIOUS_FILE + ".part")
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:  # a file system without second names: for a moment the old one has its second alone
        path.replace(previous)
    else:
        second.replace(previous)


def read_checkpoint(path: Path, fingerprint: str) -> State:
    """Read a checkpoint whose every byte is as it was written; tensors stay in the file until they are used.

    Raises:
        CheckpointRefused: torn, of another format, or of another job.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()
        state: Any = None if torn else torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch's and zipfile's errors about foreign bytes are of no common kind
        if recognise(error) is not None:
            raise  # it may be whole: memory ran out, which is another rung's to mend
        raise CheckpointRefused(f"not a whole checkpoint ({type(error).__name__}: {error})"[:300]) from error
    if torn is not None:
        raise CheckpointRefused(f"{torn} in it is not what was written")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointRefused(f"not a checkpoint of format {FORMAT}")
    if state.get("fingerprint") != fingerprint:
        raise CheckpointRefused("of another job: what decides the outcome is not the same")
    whole: State = state
    return whole


def newest_checkpoint(folder: Path, fingerprint: str, model: nn.Module) -> tuple[State | None, list[str]]:
    """Return the newest checkpoint that fits, and for every one that does not its name and why."""
    refused = []
    for name in (CHECKPOINT_FILE, PREVIOUS_FILE):
        path = folder / name
        if not path.is_file():
            continue
        try:
            state = read_checkpoint(path, fingerprint)
            _require_same_network(state, model)
        except CheckpointRefused as error:
            refused.append(f"{name}: {error}")
        else:
            return state, refused
    return None, refused


def settle(folder: Path, found: bool, refused: list[str]) -> None:  # noqa: FBT001 - told, not chosen
    """Set files aside that were refused, so that none of them ever takes the place of a good one."""
    for line in refused:
        file = folder / line.split(":", 1)[0]
        if file.is_file():
            file.replace(file.with_name(file.name + ".refused"))
    if found and not (folder / CHECKPOINT_FILE).is_file():
        (folder / PREVIOUS_FILE).replace(folder / CHECKPOINT_FILE)


def remove_checkpoints(folder: Path) -> None:
    """Leave no checkpoint."""
    for name in (CHECKPOINT_FILE, PREVIOUS_FILE):
        (folder / name).unlink(missing_ok=True)


def state_of(trainer: Any, fingerprint: str) -> State:
    """Return what a checkpoint holds: the trainer's state right after a step of its optimizer."""
    place = trainer.place
    model, _ = named(unwrap_model(trainer.model).state_dict())
    return {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "epochs": place.epoch,
        "images": place.images,
        "losses": place.losses.state(),
        "rate_scale": trainer.rate_scale,
        "rollbacks": trainer.rollbacks,
        "weights": hash_of(model),
        "model": model,
        "ema": flattened(trainer.ema.ema.state_dict().values()),
        "updates": trainer.ema.updates,
        "optimizer": optimizer_memory(trainer.optimizer),
        "scaler": trainer.scaler.state_dict(),
        "random": _random_states(),
    }


def is_sound(state: State) -> bool:
    """Say whether every weight and statistic of a state is a number."""
    return all_finite(flattened(state["model"].values())) and all_finite(state["ema"])


def averaged_weights(state: State) -> dict[str, torch.Tensor]:
    """Return the averaged weights of a state by name."""
    model = state["model"]
    return dict(zip(model, spread(state["ema"], list(model.values())), strict=True))


def restore(trainer: Any, state: State) -> None:
    """Put a checkpoint's state into a trainer that has been set up.

    Of the optimizer its memory is taken; rates and decays are those that its own job gives it, which may
    have another batch than the one before.
    """
    model = unwrap_model(trainer.model)
    model.load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(averaged_weights(state))
    trainer.ema.updates = state["updates"]
    remember(trainer.optimizer, state["optimizer"])
    if state["scaler"]:
        trainer.scaler.load_state_dict(state["scaler"])
    trainer.rate_scale = state["rate_scale"]
    trainer.rollbacks = max(state["rollbacks"], trainer.rollbacks)
    trainer.place.go_to(state["epochs"], state["images"])
    trainer.place.losses.restore(state["losses"])
    restore_criterion(model, state["epochs"])
    _restore_random(state["random"])


def restore_criterion(model: nn.Module, epochs: int) -> None:
    """Bring a loss whose weighting moves from epoch to epoch to where it was after so many."""
    criterion = model.criterion
    if hasattr(criterion, "updates") and epochs > 0:
        criterion.updates = epochs - 1
        criterion.update()


def weights_hash(model: nn.Module) -> str:
    """Return the hash of a network's live weights and statistics."""
    return hash_of(model.state_dict())


def _require_same_network(state: State, model: nn.Module) -> None:
    saved, own = state["model"], model.state_dict()
    odd = [name for name in saved.keys() | own.keys() if name not in saved or name not in own]
    odd += [name for name in saved.keys() & own.keys() if saved[name].shape != own[name].shape]
    if odd:
        raise CheckpointRefused(f"of another network: {len(odd)} tensors differ, such as {min(odd)}")


def _random_states() -> State:
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random(states: State) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(states["cuda"])
