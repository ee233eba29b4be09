"""Make the weights that everybody starts from; a child, since it loads torch.

    python -m bench.train_parts.start '{"start": "demo", "names": [...], "out": "start.pt", "seed": 0}'

`demo` is the demo's first champion, its head grown to the class list; a yaml is drawn by the seed. Both are
rounded to half precision by being saved, so that all who load the file begin at the same numbers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from demo.base.recipe import WEIGHTS, assets_folder
from trainer.ultralytics_backend.models import build_model
from trainer.ultralytics_backend.weights import save_weights

DEMO = "demo"


def main() -> int:
    """Write the start weights."""
    asked = json.loads(sys.argv[1])
    torch.manual_seed(asked["seed"])
    start = str(assets_folder() / WEIGHTS) if asked["start"] == DEMO else asked["start"]
    out = Path(asked["out"])
    save_weights(out, build_model(start, tuple(asked["names"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
