"""Draw or read the 1080p frames everybody is shown, and choose those the model is sure of.

A line that runs well shows frames the model is sure of; a hard one is compared with those kept of late,
encoded and kept, which the mining's hourly budget bounds. So of drawn frames those are taken for which no
mining rule has a reason at its defaults; the random share is kept as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detection.session import Detector
from edge_agent.mining.seen import SeenFrame
from edge_agent.mining.verdict import miner_of
from edge_agent.settings.mining import MiningConfig

WIDTH, HEIGHT = 1920, 1080
KEEP = 8
TRIED = 2000
FEWEST, MOST = 3, 60
ROOM = 0.03
SURE_RULES = MiningConfig(random_share=0.0, rare_share=0.0, near_duplicates=True, max_per_hour=0)
"""The defaults, but for what depends on other frames, on the budget or on chance."""


def draw_frame(number: int) -> Any:
    """Draw a frame, (1080, 1920, 3) BGR: soft background, a dozen rectangles and discs, a little noise."""
    random = np.random.default_rng(number)
    soft = random.integers(60, 160, (9, 16, 3), dtype=np.uint8)
    frame = cv2.resize(soft, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y = int(random.integers(0, WIDTH - 200)), int(random.integers(0, HEIGHT - 200))
        width, height = random.integers(40, 400, 2).tolist()
        colour = tuple(random.integers(0, 256, 3).tolist())
        if random.random() < 0.5:
            cv2.rectangle(frame, (x, y), (x + width, y + height), colour, -1)
        else:
            cv2.circle(frame, (x + width // 2, y + height // 2), width // 2, colour, -1)
    noise = random.integers(0, 12, (HEIGHT, WIDTH, 1), dtype=np.uint8)
    return cv2.add(frame, np.repeat(noise, 3, axis=2))


def read_frames(folder: Path) -> Iterator[Any]:
    """Give a folder's images as 1080p frames: as high as the frame, in the middle of a grey one."""
    for path in sorted(folder.iterdir()):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            continue
        scale = min(WIDTH / image.shape[1], HEIGHT / image.shape[0])
        inner = cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)))
        frame = np.full((HEIGHT, WIDTH, 3), 114, np.uint8)
        top, left = (HEIGHT - inner.shape[0]) // 2, (WIDTH - inner.shape[1]) // 2
        frame[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        yield frame


def choose_frames(detector: Detector, candidates: Iterator[Any], *, only_sure: bool) -> Any:
    """Return `KEEP` frames as one array; with `only_sure` those without a reason to be kept.

    Raises:
        ValueError: too few of the candidates will do.
    """
    chosen: list[Any] = []
    for frame, _ in zip(candidates, range(TRIED), strict=False):
        if not only_sure or is_sure(detector, frame):
            chosen.append(frame)
        if len(chosen) == KEEP:
            return np.stack(chosen)
    raise ValueError(f"expected {KEEP} usable frames of {TRIED}, got {len(chosen)}")


def is_sure(detector: Detector, frame: Any) -> bool:
    """Tell whether some boxes are found and no rule but the random one would keep the frame."""
    seen = detector.infer(frame)
    scores = seen.detections.confidence
    # A little room, since exports differ in their last digits.
    band = (scores > SURE_RULES.low - ROOM) & (scores < SURE_RULES.high + ROOM)
    if not FEWEST <= len(scores) <= MOST or band.any():
        return False
    size = (frame.shape[1], frame.shape[0])
    names = tuple(detector.class_names)
    told = SeenFrame(
        seen.detections, "cam0", "part", 0, features=seen.features, frame_size=size, class_names=names
    )
    return not miner_of(SURE_RULES).reasons_to_keep(told)


def drawn_frames() -> Iterator[Any]:
    """Give drawn frames without end."""
    number = 0
    while True:
        yield draw_frame(number)
        number += 1
