"""Be ultralytics' own detection trainer, with our data, loss, loop, checkpoints and resume.

What is taken away: dataset scans, validation and plots during training, AMP probes that download, the
thread limit, torn checkpoints, a loop whose place nobody can save. What ultralytics does well (augmentation,
assignment, optimizers, EMA) stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.torch_utils import unwrap_model

from trainer.backend_job import BackendEvent, BackendJob
from trainer.memory import recognise
from trainer.ultralytics_backend import checkpoint, loop, ranks
from trainer.ultralytics_backend.data import IndexedDataset
from trainer.ultralytics_backend.environment import usable_threads
from trainer.ultralytics_backend.in_force import epoch_event, settings_in_force
from trainer.ultralytics_backend.loader import EpochLoader, usable_workers
from trainer.ultralytics_backend.losses import MASK_KEY, class_mask, masked_criterion
from trainer.ultralytics_backend.order import Share, batches_of
from trainer.ultralytics_backend.place import Place
from trainer.ultralytics_backend.pulse import Pulse
from trainer.ultralytics_backend.rollback import LossLost
from trainer.ultralytics_backend.validation_loss import NoValidator, ValidationLoss

Emit = Callable[[BackendEvent], None]
OnMoment = Callable[[Any, str], None]


class WhetstoneTrainer(DetectionTrainer):
    """Be ultralytics' trainer for one `BackendJob`.

    `moment` says what it is doing (`loader`, `forward`, `loss`, `backward`, `optimizer`, `ema`, `validation`,
    `checkpoint`), `place` how far it is; `on_moment` hears every moment as it begins; `found` is the
    checkpoint to go on from.

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
        self.found: checkpoint.State | None = None
        self.place = Place()
        self.rate_scale = 1.0
        self.mosaic_closed = False
        self.rollbacks = 0
        self.moment = "start"
        self.on_moment: OnMoment | None = None
        self.not_continued: list[str] = []
        self.start_weights = {name: one.clone() for name, one in model.state_dict().items()}
        self.told = ""
        self.last_images: list[str] = []
        self.pulse = Pulse(job, emit)
        super().__init__(overrides=overrides)
        self.world_size, self.ddp = 1, False  # `ranks` does what ultralytics does by these
        self.args.workers = job.workers  # ultralytics allows none on processors
        self.bad_loss = torch.zeros((), dtype=torch.bool, device=self.device)
        self.validation = ValidationLoss(self)
        self.epoch_started = self.kept_at = time.monotonic()
        self.keeping_seconds = 0.0
        # NHWC is a quarter faster on processors; ultralytics does the same on CUDA by itself.
        self.model = model.to(memory_format=torch.channels_last)
        # ultralytics took one away in its CPU path.
        torch.set_num_threads(max(usable_threads(job.threads) // ranks.world(), 1))

    # What ultralytics would do with files, networks and validation -----------------------------------------

    def get_dataset(self) -> dict[str, Any]:
        """Describe our dataset in place of a yaml that ultralytics would check and scan."""
        names = dict(enumerate(self.job.class_names))
        folder = str(self.job.dataset)
        return {"train": folder, "val": folder, "names": names, "nc": len(names), "channels": 3}

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> IndexedDataset:
        """Return the training images with their augmentation, or the validation images as they are."""
        cache = None if self.args.cache in {False, None} else self.args.cache
        train = mode == "train"
        return IndexedDataset(
            img_path=img_path, imgsz=self.args.imgsz, batch_size=batch or self.batch_size, augment=train,
            hyp=self.args, rect=False, cache=cache if train else None, stride=32, data=self.data,
            task="detect", split="train" if train else "val",
        )  # fmt: skip

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> Any:
        """Return the training loader, also where ultralytics asks for one to validate with."""
        if mode == "val":
            return self.train_loader
        dataset = self.build_dataset(dataset_path, mode, self.batch_size // ranks.world())
        workers = usable_workers(self.args.workers, batches_of(len(dataset), done=0, share=self.share))
        cuda = self.device.type == "cuda"
        return EpochLoader(dataset, self.share, seed=self.job.seed, workers=workers, pinned=cuda)

    def get_validator(self) -> Any:
        """Return a stand-in: the gate validates, through `detection/`."""
        return NoValidator()

    def final_eval(self) -> None:
        """Skip the validation of a best.pt that is never written."""

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Skip the CSV file: the epoch event carries the same numbers."""

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Let Adam step in one kernel on processors too; ultralytics does so on CUDA alone."""
        optimizer = super().build_optimizer(*args, **kwargs)
        if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            for group in optimizer.param_groups:
                group["fused"], group["foreach"] = True, False
        return optimizer

    # Steps -------------------------------------------------------------------------------------------------

    @property
    def share(self) -> Share:
        """Return the batch over all processes and this one's part of it."""
        return Share(self.batch_size, ranks.rank(), ranks.world())

    @property
    def number_format(self) -> Any:
        """Return what ultralytics' `autocast` takes: a type, or whether to cast at all."""
        return torch.bfloat16 if self.args.amp == "bf16" else self.amp

    def enter(self, moment: str) -> None:
        """Begin a moment of training; what goes wrong from here on happened in it."""
        self.moment = moment
        if self.on_moment is not None:
            self.on_moment(self, moment)

    def _do_train(self) -> None:
        loop.run(self)

    def set_up(self) -> None:
        """Build everything, go on from a checkpoint if there is one, and share the gradients."""
        super()._setup_train()
        compiled = hasattr(self.model, "_orig_mod")
        self.model = ranks.wrapped(self.model, self.device, compiled=compiled)
        if self.args.compile and not compiled:
            why = "torch.compile is not possible here; the run goes on uncompiled"
            self.emit(BackendEvent("watch", self.place.epoch, {"kind": "compile", "why": why}))

    def goes_on_uncompiled(self, error: RuntimeError) -> bool:
        """Undo compiling where the compiler failed at its first use; False for any other error."""
        of_compiler = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
        if not (of_compiler and hasattr(self.model, "_orig_mod")):
            return False
        self.model = unwrap_model(self.model)
        self.args.compile = False
        self.place.go_to(self.place.epoch, self.place.images)
        self.optimizer.zero_grad()
        why = f"torch.compile failed ({type(error).__name__}); the run goes on uncompiled"
        self.emit(BackendEvent("watch", self.place.epoch, {"kind": "compile", "why": why}))
        return True

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the mask of classes that each image's labels speak of (law 9)."""
        return self.prepared(batch, self.train_loader.dataset.known_classes)

    def prepared(self, batch: dict[str, Any], known: dict[str, int]) -> dict[str, Any]:
        """Return a batch on the device, in the layout the network likes, with its mask of classes."""
        batch = super().preprocess_batch(batch)
        batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        mask = class_mask([known[file] for file in batch["im_file"]], len(self.job.class_names))
        if mask is not None:
            batch[MASK_KEY] = mask.to(self.device)
        return batch

    def optimizer_step(self) -> None:
        """Step as ultralytics does, moment by moment."""
        self.enter("optimizer")
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=10.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.enter("ema")
        self.ema.update(self.model)

    # Epochs ------------------------------------------------------------------------------------------------

    def open_epoch(self) -> None:
        """Begin the running epoch, or what is left of it."""
        closing = self.epochs - self.args.close_mosaic
        if self.args.close_mosaic and self.epoch >= closing and not self.mosaic_closed:
            self._close_dataloader_mosaic()
            self.train_loader.reset()
            self.mosaic_closed = True
        self._model_train()
        self.train_loader.begin(self.epoch, self.place.images)
        self.epoch_images = len(self.train_loader.dataset) - self.place.images
        self.epoch_started = time.monotonic()

    def close_epoch(self) -> None:
        """End the running epoch: measure, write the checkpoint, say so, and cure what the watch found."""
        seconds = time.monotonic() - self.epoch_started
        self.pulse.rest()
        self.tloss = self.place.losses.means()
        self.lr = {f"lr/pg{at}": group["lr"] for at, group in enumerate(self.optimizer.param_groups)}
        criterion = unwrap_model(self.model).criterion
        if hasattr(criterion, "update"):
            criterion.update()
        self.run_callbacks("on_train_epoch_end")
        self.ema.update_attr(self.model, include=["yaml", "nc", "args", "names", "stride", "class_weights"])
        measured = self.validation.measure_if_due()
        self.metrics = {f"val/{name}": value for name, value in measured.items()}
        event = epoch_event(self, seconds, measured)
        self.place.next_epoch()
        self.keep(event)
        if ranks.is_first():
            self.run_callbacks("on_fit_epoch_end")
        self._cure(event.data["settings"])

    def keep(self, event: BackendEvent | None = None) -> None:
        """Write the complete checkpoint, then say that the epoch is done, or that its part is kept."""
        self.enter("checkpoint")
        began = time.monotonic()
        alike = ranks.are_alike(self.model)
        state = checkpoint.state_of(self, self.fingerprint) if ranks.is_first() else {}
        if not ranks.agree(not state or checkpoint.is_sound(state), self.device):
            raise LossLost(self.epoch, self.place.step, exact=False)
        if state:
            if event is not None:
                event.data.update(weights=state["weights"], devices_alike=alike)
                self.told = event.to_line()
            written = self._write({**state, "told": self.told})
            data = {"images": self.place.images, "weights": state["weights"]}
            if event is not None or written:
                self.emit(event or BackendEvent("checkpoint", self.place.epoch, data))
        self.kept_at = time.monotonic()
        self.keeping_seconds = self.kept_at - began

    def _write(self, state: checkpoint.State) -> bool:
        """Write the checkpoint; a full disk costs what is gained until it is not full, not the run."""
        try:
            checkpoint.save_checkpoint(self.job.out, state)
            return True
        except (OSError, checkpoint.CheckpointRefused, RuntimeError) as error:
            if recognise(error) is not None:
                raise
            why = f"a checkpoint could not be written, the one before stays: {error}"
            self.emit(BackendEvent("watch", self.place.epoch, {"kind": "checkpoint", "why": why}))
            return False

    def settings_now(self) -> dict[str, Any]:
        """Return the settings that are really in force."""
        return settings_in_force(self)

    def _cure(self, now: dict[str, Any]) -> None:
        """Go on with the workers, cache and batch that the watch wants, from the next epoch on."""
        more = self.place.epoch < self.epochs
        cure = ranks.shared(self.pulse.cure(now) if ranks.is_first() and more else None)
        if cure is None:
            return
        self.args.workers = cure.workers
        self.args.cache = False if cure.cache == "none" else cure.cache
        self.args.batch = self.batch_size = cure.batch
        self.train_loader.close()
        self._build_train_pipeline()

    def _build_train_pipeline(self) -> None:
        super()._build_train_pipeline()
        self.mosaic_closed = False  # a new loader's images are mixed again

    # Checkpoints -------------------------------------------------------------------------------------------

    def resume_training(self, ckpt: Any) -> None:
        """Go on from our own checkpoint, if this job left one."""
        model = unwrap_model(self.model)
        model.criterion = masked_criterion(model)
        if self.found is None:
            return
        checkpoint.restore(self, self.found)
        self.start_epoch, self.told = self.place.epoch, self.found["told"]
        data = {"images": self.place.images, "weights": checkpoint.weights_hash(model)}
        self.found = None
        self.emit(BackendEvent("resumed", self.place.epoch, data))
