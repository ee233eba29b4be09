"""Make float16 and int8 files of a really trained network and read them as a box does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from detection.model_file import read_model
from detection.session import Detector
from tests.trainer.formats.conftest import Formats, broken_int8
from tests.trainer.formats.real import network_with_head, train_images
from trainer.backend_job import ExportJob
from trainer.errors import DatasetRefused
from trainer.formats.calibration import METHODS, Seen, canvases_of, observe, ranges_by
from trainer.formats.disagreement import detections_of, disagreement
from trainer.formats.graphs import (
    QUANTISED_OPS,
    Block,
    blocks_of,
    first_convolutions,
    infer_shapes,
    output_nodes,
)
from trainer.formats.int8 import quantised
from trainer.formats.make import MakeInputs, make_format, write_file
from trainer.formats.names import PRECISION_KEY
from trainer.formats.sensitive import MOST_KEPT_SHARE, search
from trainer.ultralytics_backend.export import session_of


@pytest.mark.parametrize(("precision", "most_error", "most_size"), [("fp16", 0.01, 0.55), ("int8", 0.12, 0.60)])
def test_a_format_sees_what_the_float_file_sees(
    formats: Formats, precision: str, most_error: float, most_size: float
) -> None:
    """Through `detection/` and on images nothing was chosen by, boxes and scores stay; the file is much smaller."""
    made = formats.made[precision]
    ours, theirs = (detections_of(file, formats.images[3::4]) for file in (formats.onnx, made.file))
    assert sum(len(one) for one in ours) >= 8, "the network finds something to compare"
    assert disagreement(ours, theirs) == pytest.approx(made.error)
    assert made.error < most_error
    assert made.file.stat().st_size < most_size * formats.onnx.stat().st_size


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_format_says_of_itself_what_the_float_file_said(formats: Formats, precision: str) -> None:
    """Input, classes, outputs and operator set are the float file's; features have their own reference."""
    float_file, file = read_model(formats.onnx), read_model(formats.made[precision].file)
    assert (file.spec, file.class_names, file.layout) == (float_file.spec, float_file.class_names, float_file.layout)
    assert file.output_shapes == float_file.output_shapes
    assert file.feature_reference is not None
    assert float_file.feature_reference is not None
    assert file.feature_reference.to_json() != float_file.feature_reference.to_json()
    graph, source = onnx.load(formats.made[precision].file), onnx.load(formats.onnx)
    assert {one.key: one.value for one in graph.metadata_props}[PRECISION_KEY] == precision
    assert [(one.domain, one.version) for one in graph.opset_import] == [("", 17)]
    assert graph.ir_version == source.ir_version <= 10
    onnx.checker.check_model(graph)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_features_of_a_format_are_usual_by_its_own_reference(formats: Formats, precision: str) -> None:
    """A training image is not novel to the file: distances stay within what its reference calls usual."""
    detector = Detector.load(formats.made[precision].file)
    try:
        reference = detector.feature_reference
        assert reference is not None
        frames = [np.asarray(cv2.imread(str(file)), np.uint8) for file in formats.images[:8]]
        distances = [reference.distance(detector.infer(frame).features) for frame in frames]
        assert max(distances) < 1.5
        assert float(np.median(distances)) < 1.0
    finally:
        detector.close()


def test_int8_is_per_channel_with_free_zero_points(formats: Formats) -> None:
    """Weights carry one scale a channel, activations are uint8, and the outputs' convolutions stay in float."""
    graph = onnx.load(formats.made["int8"].file)
    tensors = {one.name: onnx.numpy_helper.to_array(one) for one in graph.graph.initializer}
    dequantise = [node for node in graph.graph.node if node.op_type == "DequantizeLinear"]
    weights = [node for node in dequantise if node.input[0] in tensors and tensors[node.input[0]].ndim == 4]
    assert len(weights) > 20
    assert all(tensors[node.input[0]].dtype == np.int8 for node in weights)
    assert any(len(tensors[node.input[1]]) > 8 for node in weights if tensors[node.input[1]].ndim)
    quantise = [node for node in graph.graph.node if node.op_type == "QuantizeLinear"]
    assert {tensors[node.input[2]].dtype for node in quantise} == {np.dtype(np.uint8)}
    kept = set(formats.made["int8"].kept_layers)
    assert set(output_nodes(onnx.load(formats.onnx), read_model(formats.onnx).spec.detection_outputs)) <= kept
    weights_of = {node.name: tensors.get(node.input[1]) for node in graph.graph.node if node.op_type == "Conv"}
    in_float = {name for name, weight in weights_of.items() if weight is not None and weight.dtype == np.float32}
    assert in_float == kept


def test_float16_keeps_the_pixels_scale_and_the_outputs_in_float32(formats: Formats) -> None:
    """The convolution with 1/255 in its weights, and those that write outputs, compute in float32."""
    graph = onnx.load(formats.made["fp16"].file)
    tensors = {one.name: one.data_type for one in graph.graph.initializer}
    kinds = {node.name: tensors.get(node.input[1]) for node in graph.graph.node if node.op_type == "Conv"}
    source = onnx.load(formats.onnx)
    outputs = read_model(formats.onnx).spec.detection_outputs
    border = {first_convolutions(source)[-1], *output_nodes(source, outputs)}
    assert {kinds[name] for name in border} == {onnx.TensorProto.FLOAT}
    assert {kind for name, kind in kinds.items() if name not in border} == {onnx.TensorProto.FLOAT16}


def test_progress_is_told_and_time_is_bounded(formats: Formats) -> None:
    """A person sees what is calibrated, which method won and what was kept; little time means less search."""
    assert any(line.startswith("calibrating on 24") for line in formats.told)
    assert any("minmax" in line for line in formats.told)
    assert formats.made["int8"].method in METHODS
    assert formats.made["int8"].seconds < 30.0


def test_too_few_images_to_calibrate_on_are_refused(formats: Formats, tmp_path: Path) -> None:
    """Ranges of four images would be those of four images; the message says what to do."""
    with pytest.raises(DatasetRefused, match="at least 8 training images") as refusal:
        make_format("int8", MakeInputs(formats.onnx, formats.images[:5]), tmp_path / "x.onnx")
    assert "precisions" in refusal.value.diagnostics()
    assert list(tmp_path.iterdir()) == []


def test_observed_extremes_are_those_of_the_tensors(formats: Formats) -> None:
    """Calibration saw what the float file computed, on the very canvases a box would draw."""
    graph, spec = onnx.load(formats.onnx), read_model(formats.onnx).spec
    canvases = canvases_of(formats.images[:3], spec)
    seen = observe(graph, canvases, spec.input_name)
    name = next(node.output[0] for node in graph.graph.node if node.op_type == "Cast")
    assert (seen[name].low, seen[name].high) == (min(c.min() for c in canvases), max(c.max() for c in canvases))
    sigmoids = [node.output[0] for node in graph.graph.node if node.op_type == "Sigmoid"]
    assert all(0.0 <= seen[one].low <= seen[one].high <= 1.0 for one in sigmoids)
    assert all(one.counts.sum() > 0 for one in seen.values())


@pytest.mark.parametrize("method", METHODS)
def test_methods_give_ranges_inside_what_was_seen(method: str) -> None:
    """With one far outlier, percentile and mse cut it off and minmax keeps it; none goes beyond what was seen."""
    counts = np.zeros(2048, np.int64)
    counts[:200] = 1000
    counts[-1] = 1
    seen = Seen(0.0, 100.0, counts)
    found = ranges_by(method, {"x": seen})["x"]
    assert 0.0 <= found.low < found.high <= 100.0
    assert (found.high == 100.0) is (method == "minmax")
    if method == "mse":
        assert seen.noise_share(found) < seen.noise_share(ranges_by("minmax", {"x": seen})["x"])


def test_blocks_hold_every_quantisable_convolution_once(formats: Formats) -> None:
    """Blocks divide the network: each convolution is in one, and shares of multiplications add up to one."""
    inferred = infer_shapes(onnx.load(formats.onnx))
    blocks = blocks_of(inferred)
    names = [name for block in blocks for name in block.convolutions]
    assert sorted(names) == sorted(node.name for node in inferred.graph.node if node.op_type == "Conv")
    assert sum(block.share for block in blocks) == pytest.approx(1.0)
    assert {"model.0", "model.23/boxes.0", "model.23/logits.2"} <= {block.name for block in blocks}
    assert "Conv" in QUANTISED_OPS


def blocks(count: int, share: float = 0.05) -> tuple[Block, ...]:
    """Return made-up blocks."""
    return tuple(Block(f"b{n}", (f"b{n}/node",), (f"b{n}/Conv",), share) for n in range(count))


def test_the_search_keeps_what_hurts_and_nothing_else() -> None:
    """Of ten blocks two cause the error: exactly these are kept in float."""
    def error_of(kept: tuple[Block, ...]) -> float:
        names = {block.name for block in kept}
        return 0.001 + 0.10 * ("b3" not in names) + 0.06 * ("b7" not in names)

    found = search(blocks(10), error_of, until=float("inf"))
    assert {block.name for block in found.kept} == {"b3", "b7"}
    assert found.error == pytest.approx(0.001)
    assert found.finished


def test_the_search_keeps_within_its_share() -> None:
    """When everything hurts, no more than the bound of multiplications is kept: int8 must save something."""
    found = search(blocks(10, 0.1), lambda kept: 0.5 - 0.04 * len(kept), until=float("inf"))
    assert 0 < sum(block.share for block in found.kept) <= MOST_KEPT_SHARE


def test_the_search_ends_in_time_and_when_it_is_good_enough() -> None:
    """Without time nothing is tried but the start, and a good start is not searched at all."""
    tried: list[int] = []

    def count(kept: tuple[Block, ...]) -> float:
        tried.append(len(kept))
        return 0.5

    assert search(blocks(10), count, until=0.0).kept == ()
    assert tried == [0]
    assert search(blocks(10), lambda _: 0.01, until=float("inf")).tried == 0


def test_wrong_scales_are_seen_by_the_disagreement(formats: Formats, tmp_path: Path) -> None:
    """A file quantised with ranges of nothing sees nothing alike: the measure the search rests on tells."""
    broken = broken_int8(formats, tmp_path / "broken.onnx")
    ours, theirs = (detections_of(file, formats.images[3::4]) for file in (formats.onnx, broken))
    assert disagreement(ours, theirs) > 0.5


@pytest.mark.parametrize("head", ["dense", "end2end"])
def test_heads_that_decode_themselves_keep_decoding_in_float32(head: str, tmp_path: Path) -> None:
    """Coordinates in pixels are never rounded to half floats or to 256 steps, whatever head a network has."""
    file = network_with_head(head, tmp_path / f"{head}.onnx")
    spec = read_model(file).spec
    assert spec.head == head
    graph = onnx.load(file)
    kept = set(output_nodes(graph, spec.detection_outputs))
    decoding = [node for node in graph.graph.node if node.name in kept and node.op_type != "Conv"]
    assert len(decoding) > 5
    canvas = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 3), dtype=np.uint8)
    images = tmp_path / "images"
    images.mkdir()
    made = {"fp16": make_format("fp16", MakeInputs(file, train_images(images, 4)), tmp_path / "half.onnx").file}
    seen = observe(graph, [canvas], spec.input_name)
    made["int8"] = tmp_path / "int8.onnx"
    write_file(quantised(graph, ranges_by("minmax", seen), tuple(kept)), graph, "int8", made["int8"])
    (wanted,) = session_of(str(file)).run([spec.detections_name], {spec.input_name: canvas})
    for precision, other in made.items():
        assert read_model(other).spec == spec
        rounded = {
            one.input[0]
            for one in onnx.load(other).graph.node
            if one.op_type == "QuantizeLinear"
            or (one.op_type == "Cast" and one.attribute[0].i == onnx.TensorProto.FLOAT16)
        }
        assert not rounded & {name for node in decoding for name in node.output}
        (got,) = session_of(str(other)).run([spec.detections_name], {spec.input_name: canvas})
        if precision == "fp16" and head == "dense":
            assert np.abs(got[:, :4] - wanted[:, :4]).max() < 1.0
        assert np.isfinite(got).all()
        assert got.shape == wanted.shape


def test_an_older_onnxruntime_reads_every_format(formats: Formats) -> None:
    """What ships is readable by onnxruntime 1.23, the last for Python 3.10, as far as the file itself tells.

    Its limits are the IR version (10) and operator set (21); operators of other domains it may not know.
    """
    for made in formats.made.values():
        graph = onnx.load(made.file)
        assert graph.ir_version <= 10
        assert {node.domain for node in graph.graph.node} == {""}


def test_loading_formats_needs_no_torch() -> None:
    """The package converts without torch, so that a cloud process may use it too."""
    code = "import sys, trainer.formats.make; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_export_alone_makes_no_formats(formats: Formats) -> None:
    """An origin is one file: there are no training images to calibrate another one on."""
    assert formats.result.variants == ()
    assert "precisions" not in ExportJob.model_fields
