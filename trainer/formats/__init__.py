"""Write a model's other number formats: float16 and static int8, each a file that `detection/` runs.

No torch here: onnx and onnxruntime alone, from the exported float file and training images. What a box will
lose by a format is measured as a box would see it, by the detections of both files side by side.

    model.onnx --calibration--> ranges --int8--> model-int8.onnx   (sensitive layers kept, see `sensitive`)
               --half------------------------->  model-fp16.onnx
"""

from __future__ import annotations
