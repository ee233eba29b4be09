"""Train one job by our loop and by ultralytics' own, and print the hash of each one's weights as JSON.

Also printed: how many boxes there are without and with copy-paste.

`python -m tests.trainer.loops JOB`; everything but the loop is the same: trainer, loader, loss, optimizer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from trainer.backend_job import BackendJob, read_job
from trainer.ultralytics_backend import environment
from trainer.ultralytics_backend.order import Pick


def boxes_with(trainer: Any, share: float) -> int:
    """Return how many boxes a pass over the images gives where that share of them is pasted a second time."""
    trainer.args.mosaic, trainer.args.copy_paste = 0.0, share
    dataset = trainer.build_dataset(trainer.data["train"])
    return sum(len(dataset[Pick(image, 7)]["cls"]) for image in range(len(dataset)))


def main(arguments: list[str]) -> int:
    """Train twice and compare."""
    job = read_job(Path(arguments[0]))
    assert isinstance(job, BackendJob)
    environment.prepare(job.out / "ultralytics-config", threads=job.threads, niceness=0)
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.utils.torch_utils import unwrap_model

    from trainer.ultralytics_backend import checkpoint, core, settings
    from trainer.ultralytics_backend.models import build_model

    environment.silence_ultralytics()
    torch.set_flush_denormal(True)

    class Theirs(core.WhetstoneTrainer):
        def _do_train(self) -> None:
            DetectionTrainer._do_train(self)

        def _model_train(self) -> None:
            super()._model_train()
            self.train_loader.begin(self.epoch, 0)

        def validate(self) -> tuple[dict[str, float], None]:
            return {}, None

        def save_model(self) -> bool:
            return False

    hashes: dict[str, str] = {}
    for name, kind in (("ours", core.WhetstoneTrainer), ("theirs", Theirs)):
        torch.manual_seed(job.seed)
        model = build_model(job.start, job.class_names)
        trainer: Any = kind(
            job, settings.overrides_of(job, masked=False, device="cpu"), model, lambda _: None, "x"
        )
        trainer.train()
        hashes[name] = checkpoint.weights_hash(unwrap_model(trainer.model))
        hashes[f"{name} averaged"] = checkpoint.weights_hash(trainer.ema.ema)
    print(json.dumps({**hashes, "boxes": [boxes_with(trainer, share) for share in (0.0, 1.0)]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
