"""Images pass the cameras once each, in a fixed order, also when the demo is started again."""

from __future__ import annotations

from pathlib import Path

from demo.images.feed import CameraFolder, Feeder
from demo.images.layout import ImageRow


def _rows(folder: Path, count: int) -> list[ImageRow]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        image = folder / f"p{number}.jpg"
        image.write_bytes(f"picture {number}".encode())
        rows.append(ImageRow(f"p{number}", "board", "new_pool", image, folder / f"p{number}.txt"))
    return rows


def _cameras(tmp_path: Path) -> list[CameraFolder]:
    return [CameraFolder(name, tmp_path / name / "camera") for name in ("box-a", "box-b")]


def test_every_image_passes_once(tmp_path: Path) -> None:
    """All images pass, shared between the boxes, byte for byte."""
    feeder = Feeder(_rows(tmp_path / "images", 7), _cameras(tmp_path), seed=1)
    assert feeder.feed(3) == 4
    assert feeder.feed(10) == 0
    assert feeder.feed(10) == 0
    assert (feeder.passed("box-a"), feeder.passed("box-b")) == (4, 3)
    passed = {path.read_bytes() for path in tmp_path.glob("box-*/camera/*__0.jpg")}
    assert len(passed) == 7


def test_goes_on_where_it_was(tmp_path: Path) -> None:
    """A feeder made anew lets the rest pass, and nothing that a box has set aside meanwhile comes again."""
    rows, cameras = _rows(tmp_path / "images", 6), _cameras(tmp_path)
    Feeder(rows, cameras, seed=1).feed(4)
    first = sorted(tmp_path.glob("box-*/camera/*.jpg"))
    first[0].unlink()
    assert Feeder(rows, cameras, seed=1).feed(10) == 0
    assert len(list(tmp_path.glob("box-*/camera/*.jpg"))) == 5
    assert not first[0].exists()
