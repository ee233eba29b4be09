"""Train: ultralytics' own detection trainer, with our data, loss, checkpoints and resume.

What is taken away: dataset scans, validation and plots during training, AMP probes that download, the
thread limit, torn checkpoints. What ultralytics does well (augmentation, assignment, schedules, EMA) stays.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from ultralytics.data.build import build_dataloader
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.torch_utils import unwrap_model

from trainer.backend_job import CHECKPOINT_FILE, EVENTS_FILE, BackendEvent, BackendJob
from trainer.ultralytics_backend import checkpoint
from trainer.ultralytics_backend.data import IndexedDataset
from trainer.ultralytics_backend.environment import usable_threads
from trainer.ultralytics_backend.losses import MASK_KEY, class_mask, masked_criterion

Emit = Callable[[BackendEvent], None]


class WhetstoneTrainer(DetectionTrainer):
    """Be ultralytics' trainer for one `BackendJob`.

    Args:
        job: the work.
        overrides: ultralytics settings made from it by `settings.overrides_of`.
        model: the network to train, its head as long as the class list.
        emit: told about every epoch.
        fingerprint: names the job in checkpoints.
    """

    def __init__(
        self, job: BackendJob, overrides: dict[str, Any], model: nn.Module, emit: Emit, fingerprint: str
    ) -> None:
        self.job = job
        self.emit = emit
        self.fingerprint = fingerprint
        self.epoch_started = 0.0
        super().__init__(overrides=overrides)
        # NHWC is a quarter faster on processors; ultralytics does the same on CUDA by itself.
        self.model = model.to(memory_format=torch.channels_last)
        torch.set_num_threads(usable_threads(job.threads))  # ultralytics took one away in its CPU path

    # What ultralytics would do with files, networks and validation -----------------------------------------

    def get_dataset(self) -> dict[str, Any]:
        """Describe our dataset in place of a yaml that ultralytics would check and scan."""
        names = dict(enumerate(self.job.class_names))
        folder = str(self.job.dataset)
        return {"train": folder, "val": folder, "names": names, "nc": len(names), "channels": 3}

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> IndexedDataset:
        """Return the training images with their augmentation."""
        cache = None if self.args.cache in {False, None} else self.args.cache
        return IndexedDataset(
            img_path=img_path, imgsz=self.args.imgsz, batch_size=batch or self.batch_size, augment=True,
            hyp=self.args, rect=False, cache=cache, stride=32, data=self.data, task="detect",
        )  # fmt: skip

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> Any:
        """Return the training loader, also where ultralytics asks for one to validate with."""
        if mode == "val":
            return self.train_loader
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        return build_dataloader(
            dataset, batch=batch_size, workers=self.args.workers, shuffle=True, rank=rank, device=self.device
        )

    def _build_train_pipeline(self) -> None:
        """Build loaders and optimizer; built again, ultralytics is halving the batch for want of memory."""
        again = self.optimizer is not None
        super()._build_train_pipeline()
        if again:
            data = {"reason": "out of memory", "batch": self.batch_size, "accumulation": self.accumulate}
            self.emit(BackendEvent("rung", self.epoch + 1, data))

    def get_validator(self) -> Any:
        """Return a stand-in: the gate validates, through `detection/`."""
        return _NoValidator()

    def validate(self) -> tuple[dict[str, float], None]:
        """Skip validation; no fitness also means no early stop."""
        return {}, None

    def final_eval(self) -> None:
        """Skip the validation of a best.pt that is never written."""

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Skip the CSV file: the epoch event carries the same numbers."""

    # Law 9 -------------------------------------------------------------------------------------------------

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the mask of classes that each image's labels speak of."""
        known = self.train_loader.dataset.known_classes
        batch = super().preprocess_batch(batch)
        batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        mask = class_mask([known[file] for file in batch["im_file"]], len(self.job.class_names))
        if mask is not None:
            batch[MASK_KEY] = mask.to(self.device)
        return batch

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Let Adam step in one kernel on processors too; ultralytics does so on CUDA alone."""
        optimizer = super().build_optimizer(*args, **kwargs)
        if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            for group in optimizer.param_groups:
                group["fused"], group["foreach"] = True, False
        return optimizer

    # Checkpoints -------------------------------------------------------------------------------------------

    def resume_training(self, ckpt: Any) -> None:
        """Go on from our own checkpoint, if this job left one."""
        model = unwrap_model(self.model)
        model.criterion = masked_criterion(model)
        if not self.job.resume:
            return
        state = checkpoint.load_checkpoint(self.job.out / CHECKPOINT_FILE, self.fingerprint)
        if state is not None:
            checkpoint.restore(self, state)
            _tell_again(self.job, state, self.emit)
            self.emit(BackendEvent("resumed", self.start_epoch))

    def _model_train(self) -> None:
        super()._model_train()
        if self.train_loader.num_workers == 0:
            # The order of an epoch's images follows from seed and epoch alone, so resuming repeats it;
            # worker processes have drawn ahead already and would cost seconds to start again.
            self.train_loader.reset()
            self.train_loader.generator.manual_seed(self.job.seed * 1_000_003 + self.epoch)
        self.epoch_started = time.monotonic()

    def save_model(self) -> bool:
        """Write the complete checkpoint, then say that the epoch is done."""
        event = self._epoch_event()
        path = self.job.out / CHECKPOINT_FILE
        checkpoint.save_checkpoint(path, self, self.fingerprint, event.to_line())
        self.emit(event)
        return True

    def _epoch_event(self) -> BackendEvent:
        seconds = time.monotonic() - self.epoch_started
        cuda = self.device.type == "cuda"
        data = {
            "epochs": self.epochs,
            "seconds": round(seconds, 3),
            "images_per_second": round(len(self.train_loader.dataset) / max(seconds, 1e-6), 2),
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "losses": {name: round(float(value), 5) for name, value in (self.tloss or {}).items()},
            "peak_memory_bytes": torch.cuda.max_memory_reserved() if cuda else 0,
        }
        return BackendEvent("epoch", self.epoch + 1, data)


class _NoValidator:
    """Stand where ultralytics looks for a validator's metric names."""

    class metrics:  # noqa: N801 - ultralytics reads this attribute
        """Name no metrics."""

        keys: ClassVar[list[str]] = []

    dataloader: Any = None


def train(
    job: BackendJob, overrides: dict[str, Any], model: nn.Module, emit: Emit, fingerprint: str
) -> nn.Module:
    """Train to the last epoch, from a checkpoint if there is one, and return the averaged model.

    A run whose last epoch was done before it was killed trains nothing and returns its model.
    """
    path = job.out / CHECKPOINT_FILE
    if not job.resume:
        path.unlink(missing_ok=True)
    state = checkpoint.load_checkpoint(path, fingerprint)
    if state is not None and state["epoch"] + 1 >= job.epochs:
        model.load_state_dict(state["ema"])
        _tell_again(job, state, emit)
        emit(BackendEvent("resumed", state["epoch"] + 1))
        return model
    del state
    # The trainer hangs its own settings on the model it is given; what leaves here must not carry them.
    averaged = copy.deepcopy(model)
    trainer = WhetstoneTrainer(job, overrides, model, emit, fingerprint)
    trainer.train()
    averaged.load_state_dict(trainer.ema.ema.state_dict())
    return averaged


def _tell_again(job: BackendJob, state: dict[str, Any], emit: Emit) -> None:
    """Say what the checkpoint's epoch gave if a death between checkpoint and event kept it from being said.

    On another machine nobody knows whether it was said; saying it twice changes nothing in the record.
    """
    line = state.get("told", "")
    events = job.out / EVENTS_FILE
    if line and not (events.is_file() and line in events.read_text()):
        emit(BackendEvent.from_line(line))
