"""Export the demo's trained network once and make every number format of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from demo.line.script import FIRST_CLASSES
from detection.model_file import read_model
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import ModelVariant
from fleet_contracts.training import Precision
from tests.trainer.formats.real import BASE, SIZE, train_images
from trainer.backend import export_weights
from trainer.backend_job import BackendResult
from trainer.feature_reference import add_reference
from trainer.formats.calibration import Range, canvases_of, observe, ranges_by
from trainer.formats.graphs import output_nodes
from trainer.formats.int8 import quantised
from trainer.formats.make import Made, MakeInputs, make_format, write_file
from trainer.formats.names import FILE_NAMES


@dataclass(frozen=True)
class Formats:
    """Hold the exported files, how they were made, and what was told meanwhile."""

    result: BackendResult
    images: tuple[Path, ...]
    made: dict[Precision, Made]
    told: list[str]

    @property
    def onnx(self) -> Path:
        """Return the float32 file."""
        assert self.result.onnx is not None
        return self.result.onnx

    def variant(self, precision: Precision, path: Path | None = None) -> tuple[ModelVariant, Path]:
        """Describe a file, or another one in its place, as a run would, with the parity that was measured."""
        file = path or self.made[precision].file
        content = file.read_bytes()
        parity = self.result.parity.model_copy(update={"mean_box_error_px": 0.5, "mean_score_error": 0.01})
        described = ModelVariant(
            precision=precision, name=FILE_NAMES[precision], model_id=sha256_of(content), onnx_bytes=len(content),
            parity=parity,
        )  # fmt: skip
        return described, file


def broken_int8(formats: Formats, out: Path) -> Path:
    """Write an int8 file whose activations were given the ranges of a tenth of what they are."""
    graph, spec = onnx.load(formats.onnx), read_model(formats.onnx).spec
    seen = observe(graph, canvases_of(formats.images[:2], spec), spec.input_name)
    ranges = {name: Range(one.low / 10, one.high / 10) for name, one in ranges_by("minmax", seen).items()}
    write_file(quantised(graph, ranges, output_nodes(graph, spec.detection_outputs)), graph, "int8", out)
    return out


@pytest.fixture(scope="session")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Formats:
    """Return the demo's network as float32, float16 and int8."""
    folder = tmp_path_factory.mktemp("formats")
    (folder / "images").mkdir()
    images = train_images(folder / "images", 32)
    result = export_weights(BASE, FIRST_CLASSES, SIZE, folder, parity_folder=folder / "images")
    assert result.onnx is not None
    add_reference(result.onnx, images)
    told: list[str] = []
    inputs = MakeInputs(result.onnx, images, seconds=5.0, told=told.append)
    made = {
        precision: make_format(precision, inputs, folder / FILE_NAMES[precision]) for precision in ("fp16", "int8")
    }
    for one in made.values():
        add_reference(one.file, images)
    return Formats(result, images, made, told)
