"""Be the training child: `python -m trainer.ultralytics_backend.child JOB.json PARENT_PID`.

(1) Die with the parent, yield the processor, set the environment, and only then import ultralytics.
(2) Build the model, or refuse the start weights.
(3) Train, checkpoint by checkpoint (an export job skips this).
(4) Write weights, ONNX and parity.
(5) Write the result last: its presence says that everything else is whole.

A failure is written as `backend-failure.json`; the parent decides whether another start may help, and with
less in the job where memory ran out (see `edge`).
"""

from __future__ import annotations

import copy
import faulthandler
import signal
import sys
import time
from pathlib import Path
from typing import Any

from trainer.backend_job import (
    EVENTS_FILE,
    ONNX_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    BackendEvent,
    BackendJob,
    BackendResult,
    ExportJob,
    read_job,
    write_whole,
)
from trainer.ultralytics_backend import environment
from trainer.ultralytics_backend.edge import Edge, be_killed_first


def main(arguments: list[str]) -> int:
    """Do the job named on the command line; the exit status is 0 when the result was written."""
    job = read_job(Path(arguments[0]))
    edge = Edge()
    # (1)
    environment.die_with_parent(int(arguments[1]))
    be_killed_first()
    faulthandler.register(signal.SIGUSR1)  # asked by a parent that sees no step any more
    environment.prepare(
        job.out / "ultralytics-config", threads=job.threads, niceness=job.niceness,
        expandable_segments=not isinstance(job, BackendJob) or job.expandable_segments,
    )  # fmt: skip
    try:
        _work(job, edge)
    except Exception as error:  # noqa: BLE001 - the outer edge of the process: told to the parent as a document
        edge.report(error, job.out)
        return 1
    return 0


def _work(job: BackendJob | ExportJob, edge: Edge) -> None:
    import torch

    from trainer.ultralytics_backend import ranks
    from trainer.ultralytics_backend.models import build_model

    environment.silence_ultralytics()
    torch.set_num_threads(environment.usable_threads(job.threads))
    torch.set_flush_denormal(True)  # tiny numbers of a fresh network cost a CPU ten times an ordinary one
    began = time.monotonic()
    emit = _Emitter(job.out / EVENTS_FILE)
    torch.manual_seed(job.seed if isinstance(job, BackendJob) else 0)
    # (2)
    model = build_model(str(job.start), job.class_names)
    device = str(ranks.local_rank()) if torch.cuda.is_available() else "cpu"
    if ranks.is_first():
        told = {"device": _device_name(), "versions": _versions(), "kind": job.kind}
        emit(BackendEvent("started", 0, told))
    # (3)
    if isinstance(job, BackendJob):
        model = _train(job, model, emit, device, edge)
    if not ranks.is_first():
        return
    # (4)
    edge.training_done()
    result = _ship(job, model, emit)
    # (5)
    result = result.model_copy(update={
        "device": _device_name(), "versions": _versions(), "seconds": round(time.monotonic() - began, 3)
    })  # fmt: skip
    write_whole(job.out / RESULT_FILE, result.model_dump_json().encode())
    emit(BackendEvent("finished", result.epochs, {"seconds": result.seconds}))


def _train(job: BackendJob, model: Any, emit: _Emitter, device: str, edge: Edge) -> Any:
    from trainer.dataset import open_dataset
    from trainer.ultralytics_backend import precision, settings, training

    masked = open_dataset(job.dataset).masked_images > 0
    overrides = settings.overrides_of(job, masked=masked, device=device)
    overrides["amp"] = precision.choose(job.precision, device)
    edge.open(job)
    fingerprint = settings.fingerprint_of(job)
    return training.train(job, overrides, model, emit, fingerprint, on_moment=edge.moments)


def _ship(job: BackendJob | ExportJob, model: Any, emit: _Emitter) -> BackendResult:
    from fleet_contracts.ids import sha256_of
    from trainer.feature_reference import add_reference, train_files
    from trainer.ultralytics_backend.data import parity_files
    from trainer.ultralytics_backend.export import export_onnx
    from trainer.ultralytics_backend.parity import compare
    from trainer.ultralytics_backend.variants import make_variants
    from trainer.ultralytics_backend.weights import save_weights

    weights = job.out / WEIGHTS_FILE
    save_weights(weights, model)
    epochs = job.epochs if isinstance(job, BackendJob) else 0
    result = BackendResult(
        weights=weights,
        weights_sha256=sha256_of(weights.read_bytes()),
        class_names=job.class_names,
        epochs=epochs,
    )
    if isinstance(job, BackendJob) and not job.export:
        return result
    onnx = job.out / ONNX_FILE
    spec = export_onnx(copy.deepcopy(model), job.class_names, job.image_size, onnx, job.opset)
    reference = None
    if isinstance(job, BackendJob):
        # Before anything hashes or compares the file: what ships is what was judged.
        threads = environment.usable_threads(job.threads)
        reference = add_reference(onnx, train_files(job.dataset), threads=threads)
    folder = job.dataset if isinstance(job, BackendJob) else job.parity_folder
    images = parity_files(folder, job.parity_images) if folder else []
    parity = compare(model, onnx, spec, images)
    digest = sha256_of(onnx.read_bytes())
    told = {"onnx_sha256": digest, "parity": parity.model_dump(), "feature_reference": reference is not None}
    emit(BackendEvent("exported", epochs, told))
    variants = make_variants(job, model, onnx, spec, emit) if isinstance(job, BackendJob) else ()
    return result.model_copy(update={
        "onnx": onnx, "onnx_sha256": digest, "input_spec": spec, "parity": parity, "variants": variants
    })  # fmt: skip


class _Emitter:
    """Append events to the file the parent tails; what a full disk does not take goes with the next one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = ""

    def __call__(self, event: BackendEvent) -> None:
        self._waiting += event.to_line()
        try:
            with self._path.open("a") as stream:
                stream.write(self._waiting)
        except OSError as error:
            sys.stderr.write(f"an event waits: {error}\n")
            # Some of it may have been taken: the next attempt begins on a line of its own.
            self._waiting = "\n" + self._waiting.lstrip("\n")
        else:
            self._waiting = ""


def _device_name() -> str:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


def _versions() -> dict[str, str]:
    import onnx
    import torch
    import ultralytics

    return {"python": sys.version.split()[0], "torch": str(torch.__version__),
            "ultralytics": ultralytics.__version__, "onnx": onnx.__version__}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
