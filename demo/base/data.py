"""Draw the data of the first champion: parts of the known mix, with boxes as labels."""

from __future__ import annotations

from collections.abc import Iterator

from demo.line.parts import FRAME
from demo.line.render import TruthBox
from demo.line.script import FIRST_CLASSES, MIXES, draw_part
from demo.line.writer import encode_jpeg
from fleet_contracts.samples import BoxLabel
from trainer.dataset import DatasetItem


def box_label(box: TruthBox, classes: tuple[str, ...]) -> BoxLabel:
    """Return a truth box as a label under a class list."""
    return BoxLabel(
        class_id=classes.index(box.kind),
        cx=(box.x1 + box.x2) / 2 / FRAME,
        cy=(box.y1 + box.y2) / 2 / FRAME,
        width=(box.x2 - box.x1) / FRAME,
        height=(box.y2 - box.y1) / FRAME,
    )


def base_items(seed: int, count: int) -> Iterator[DatasetItem]:
    """Draw training parts of the known mix; the same seed gives the same parts."""
    for number in range(count):
        picture = draw_part(MIXES["known"], seed, number)
        yield DatasetItem(
            name=f"base-{seed}-{number:06d}",
            image=encode_jpeg(picture),
            boxes=tuple(box_label(box, FIRST_CLASSES) for box in picture.truth),
            known_classes=len(FIRST_CLASSES),
        )
