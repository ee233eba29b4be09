"""Write the other number formats that a job asks for, each with its own feature reference and parity.

A format that cannot be made is told and left out: the float32 file is whole, and the gate tells what is not
there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import InputSpec, ModelVariant
from fleet_contracts.training import Precision
from trainer.backend_job import BackendEvent, BackendJob
from trainer.feature_reference import add_reference, train_files
from trainer.formats.make import MOST_IMAGES, MakeInputs, make_format
from trainer.formats.names import FILE_NAMES
from trainer.ultralytics_backend import environment
from trainer.ultralytics_backend.data import parity_files
from trainer.ultralytics_backend.parity import compare

Emit = Callable[[BackendEvent], None]


def make_variants(
    job: BackendJob, model: Any, source: Path, spec: InputSpec, emit: Emit
) -> tuple[ModelVariant, ...]:
    """Return the formats beside float32 that could be made, in the order of the job's `precisions`.

    Args:
        job: what was trained; its training images calibrate, its validation images compare.
        model: the trained network, as `parity.compare` takes it.
        source: the float32 file.
        spec: its input.
        emit: hears how far it is, and what could not be made.
    """
    made = []
    for precision in dict.fromkeys(job.precisions):
        if precision == "fp32":
            continue
        try:
            made.append(_variant(job, model, source, spec, (precision, emit)))
        except Exception as error:  # noqa: BLE001 - told as an event; a converter fails in many ways of its own
            (job.out / FILE_NAMES[precision]).unlink(missing_ok=True)
            _tell(job, emit, precision, failed=f"{type(error).__name__}: {error}"[:1000])
    return tuple(made)


def _variant(
    job: BackendJob, model: Any, source: Path, spec: InputSpec, asked: tuple[Precision, Emit]
) -> ModelVariant:
    precision, emit = asked
    file = job.out / FILE_NAMES[precision]
    threads = environment.usable_threads(job.threads)
    images = tuple(train_files(job.dataset, MOST_IMAGES))
    found = make_format(
        precision,
        MakeInputs(
            source, images, job.format_seconds, threads, lambda step: _tell(job, emit, precision, step=step)
        ),
        file,
    )
    # Its own features: those of another format lie elsewhere, and a box would call every frame novel.
    add_reference(file, train_files(job.dataset), threads=threads)
    parity = compare(model, file, spec, parity_files(job.dataset, job.parity_images))
    content = file.read_bytes()
    variant = ModelVariant(
        precision=precision, name=file.name, model_id=sha256_of(content), onnx_bytes=len(content),
        parity=parity, kept_layers=found.kept_layers,
    )  # fmt: skip
    _tell(
        job, emit, precision, onnx_sha256=variant.model_id, parity=parity.model_dump(), method=found.method,
        disagreement=round(found.error, 5), kept_layers=len(found.kept_layers), seconds=found.seconds,
    )  # fmt: skip
    return variant


def _tell(job: BackendJob, emit: Emit, precision: Precision, **told: Any) -> None:
    emit(BackendEvent("exported", job.epochs, {"precision": precision, **told}))
