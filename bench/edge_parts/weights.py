"""Make the weights everybody runs and ultralytics' own float export of them; a child, since it loads torch.

    python -m bench.edge_parts.weights '{"out": ..., "start": "yolo11n.yaml", "sizes": [320, 640], "seed": 0}'

No weights can be downloaded, so a network of ultralytics' own yaml is given weights by a seed. Left as they
are drawn, its activations die out towards the head (and denormal numbers cost many times an ordinary one),
and it finds nothing, which would spare everybody the suppression. Therefore:

    (1) the running statistics of its batch normalisation are taken from frames, as training would;
    (2) weights are rounded to half precision, as every saved file is;
    (3) the class head is scaled so that some ten boxes a frame are found, most of them surely.

What one frame costs the engine does not depend on the values of the weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from bench.edge_parts.frames import draw_frame
from trainer.ultralytics_backend.models import build_model, load_model
from trainer.ultralytics_backend.weights import save_weights

OPSET = 17
STATISTICS_BATCHES, STATISTICS_BATCH = 4, 4
LOOKED_AT = 12
"""Frames the class head is scaled on."""
CANDIDATES = 12
"""Grid positions a frame that shall pass the threshold, about; suppression leaves fewer boxes."""
STEEPNESS = 5.0
"""How much the class scores are spread: far more than drawn ones are, so that most are sure."""


def main() -> int:
    """Write `weights.pt` and `float-<size>.onnx`, and print the class names as JSON."""
    asked = json.loads(sys.argv[1])
    out = Path(asked["out"])
    torch.manual_seed(asked["seed"])
    torch.set_num_threads(max(1, asked.get("threads", 2)))
    start = asked["start"]
    if start.endswith(".pt"):
        model = load_model(Path(start))
    else:
        names = tuple(f"class-{number:02d}" for number in range(80))
        model = drawn_model(build_model(start, names))
    save_weights(out / "weights.pt", model)
    for size in asked["sizes"]:
        export_float(out / "weights.pt", size, out / f"float-{size}.onnx")
    sys.stdout.write(json.dumps([model.names[number] for number in sorted(model.names)]) + "\n")
    return 0


def drawn_model(model: Any) -> Any:
    """Return a network of drawn weights that behaves like a trained one: steps (1) to (3)."""
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over all batches
    with torch.no_grad():
        model.train()
        for batch in range(STATISTICS_BATCHES):  # (1)
            numbers = range(batch * STATISTICS_BATCH, (batch + 1) * STATISTICS_BATCH)
            model(torch.cat([tensor_of(draw_frame(10_000 + number)) for number in numbers]))
        model = model.half().float().eval()  # (2)
        _scale_class_head(model)  # (3)
        return model.half().float().eval()


def tensor_of(frame: Any, size: int = 640) -> torch.Tensor:
    """Return a frame as the network takes it: letterboxed, RGB, 0 to 1, (1, 3, size, size)."""
    scale = size / max(frame.shape[:2])
    inner = cv2.resize(frame, (round(frame.shape[1] * scale), round(frame.shape[0] * scale)))
    canvas = np.full((size, size, 3), 114, np.uint8)
    top = (size - inner.shape[0]) // 2
    canvas[top : top + inner.shape[0], : inner.shape[1]] = inner
    return torch.from_numpy(canvas[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255


def export_float(weights: Path, size: int, to: Path) -> None:
    """Write ultralytics' own export: float32 NCHW, static, simplified, no suppression inside."""
    from ultralytics import YOLO

    made = YOLO(str(weights)).export(
        format="onnx",
        imgsz=size,
        opset=OPSET,
        simplify=True,
        dynamic=False,
        half=False,
        nms=False,
        device="cpu",
    )
    Path(made).replace(to)


def _scale_class_head(model: Any) -> None:
    """Spread the class scores and set their common bias so that about `CANDIDATES` positions pass 0.5."""
    last = [branch[-1] for branch in model.model[-1].cv3]
    seen: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda _layer, _in, out: seen.append(out)) for layer in last]
    for layer in last:
        layer.bias.zero_()
    bars = []
    for number in range(LOOKED_AT):
        seen.clear()
        model(tensor_of(draw_frame(20_000 + number)))
        best = torch.cat([scores.flatten(2) for scores in seen], dim=2)[0].amax(dim=0)
        bars.append(float(best.topk(CANDIDATES).values[-1]))
    for hook in hooks:
        hook.remove()
    for layer in last:
        layer.weight.mul_(STEEPNESS)
        layer.bias.fill_(-STEEPNESS * float(np.median(bars)))


if __name__ == "__main__":
    sys.exit(main())
