"""Name the files of the number formats; nothing heavy is loaded for it."""

from __future__ import annotations

from fleet_contracts.training import Precision
from trainer.backend_job import ONNX_FILE

FILE_NAMES: dict[Precision, str] = {
    "fp32": ONNX_FILE,
    "fp16": "model-fp16.onnx",
    "int8": "model-int8.onnx",
}
"""Of each format's object, beside one another."""
PRECISION_KEY = "whetstone.precision"
"""Metadata property that says a file's number format; a file without it is float32."""
