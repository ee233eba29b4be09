"""Build configurations, pictures, frames and models for the tests of the box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tomli_w

from detection.detections import Detections
from detection.memory import memory_detector
from edge_agent.config import AgentConfig, parse_config
from edge_agent.model_slot import ServingModel
from edge_agent.sources.base import Frame
from fleet_contracts.base import utc_now
from fleet_contracts.ids import sample_id_of, sha256_of
from fleet_contracts.samples import ClassRule, DecisionRules, HardExample, ImageInfo, Reason, Sighting

TASK, DEVICE = "boards", "box-1"
CLASSES = ("scratch", "missing")
RULES = DecisionRules(classes=tuple(ClassRule(name=name, reject_at=0.6, unsure_at=0.3) for name in CLASSES))
WHEN = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)


def config_of(folder: Path, **sections: dict[str, Any]) -> AgentConfig:
    """Build a configuration whose files lie in `folder`; sections are merged into working ones."""
    data: dict[str, Any] = {
        "task_id": TASK,
        "device_id": DEVICE,
        "data_dir": "data",
        "broker": {"host": "127.0.0.1", "port": 1883, "reconnect_max_s": 0.5},
        "releases": {"url": "http://127.0.0.1:9/", "root_file": "root.json"},
        "camera": {"source": "folder:frames"},
        "mining": {"random_share": 0.0, "max_per_hour": 0, "near_duplicates": True},
        "outbox": {"quota_mb": 50, "free_floor_mb": 0, "retry_s": 0.2},
        "report": {"every_s": 0.3},
    }
    for name, values in sections.items():
        data[name] = {**data.get(name, {}), **values}
    return parse_config(data, where=folder / "agent.toml")


def write_config(folder: Path, port: int, **sections: dict[str, Any]) -> Path:
    """Write `agent.toml` for an agent in a process of its own: defaults, but for the sections given.

    `box` holds what stands above the sections.
    """
    data: dict[str, Any] = {
        "task_id": TASK,
        "device_id": DEVICE,
        "data_dir": "data",
        **sections.pop("box", {}),
        "broker": {"host": "127.0.0.1", "port": port},
        "releases": {"url": "http://127.0.0.1:9/releases/", "root_file": "root.json"},
        "camera": {"source": "folder:frames"},
    }
    for name, values in sections.items():
        data[name] = {**data.get(name, {}), **values}
    path = folder / "agent.toml"
    path.write_text(tomli_w.dumps(data))
    return path


def picture(seed: int, size: int = 64) -> np.ndarray:
    """Draw a picture that no other seed draws; its mean brightness grows with the seed."""
    image = np.full((size, size, 3), seed % 256, np.uint8)
    cv2.putText(image, str(seed), (2, size // 2), cv2.FONT_HERSHEY_PLAIN, 1.0, (255, 0, 128), 1)
    return image


def jpeg(seed: int, size: int = 64) -> bytes:
    """Return the picture as a JPEG file."""
    return cv2.imencode(".jpg", picture(seed, size))[1].tobytes()


def put_image(folder: Path, name: str, content: bytes) -> Path:
    """Write a file the way cameras' writers should: under another name, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.tmp"
    temporary.write_bytes(content)
    return temporary.rename(folder / name)


def frame_of(seed: int, *, part: str = "", number: int = 0, token: str = "") -> Frame:
    """Build a frame of a part of its own."""
    return Frame(picture(seed), WHEN, part or f"part-{seed}", number, token, jpeg(seed))


def boxes(*rows: tuple[float, int]) -> Detections:
    """Build detections from rows of confidence and class; all boxes lie at the same place."""
    corners = np.tile(np.asarray([8, 8, 24, 24], np.float32), (len(rows), 1)).reshape(len(rows), 4)
    return Detections(corners, np.asarray([row[0] for row in rows]), np.asarray([row[1] for row in rows]))


def model_of(
    version: int, answer: Detections | Callable[[np.ndarray], Detections], names: Sequence[str] = CLASSES
) -> ServingModel:
    """Build a model that answers the same for every frame, or as a function of the canvas."""
    name = f"model-{version}"

    def say(canvas: np.ndarray) -> Detections:
        return answer if isinstance(answer, Detections) else answer(canvas)

    return ServingModel(memory_detector(say, names, name=name), version, RULES, sha256_of(name.encode()))


def example_of(image: bytes, *, part: str = "part-1", rule: str = "uncertain") -> HardExample:
    """Build the announcement of an image."""
    return HardExample(
        task_id=TASK,
        sample_id=sample_id_of(image),
        image=ImageInfo(width=64, height=64, size_bytes=len(image)),
        sightings=(Sighting(device_id=DEVICE, camera="cam0", captured_at=WHEN, part_id=part),),
        model_id="0" * 64,
        reasons=(Reason(rule=rule, score=1.0),),
        keep_until=utc_now(),
    )
