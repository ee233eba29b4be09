"""Put members on disk and refuse what would train a model on something else than it was told."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from fleet_contracts.samples import BoxLabel
from tests.trainer.scenes import NAMES, class_list, items, member, tar_of
from trainer.dataset import DatasetItem, materialise, open_dataset, write_dataset
from trainer.errors import DatasetRefused
from trainer.shards import ShardReader


def test_golden_members_never_reach_training(tmp_path: Path) -> None:
    """The golden set is for the gate alone, so it is not even put on disk."""
    rows = [member(1, "train"), member(2, "val"), member(3, "golden")]
    images = {one.sample_id: image for one, image in rows}
    made = materialise([one for one, _ in rows], images.__getitem__, tmp_path, class_list())
    assert (made.train_images, made.val_images, made.masked_images) == (1, 1, 0)
    assert not (tmp_path / "images" / f"{rows[2][0].sample_id}.jpg").exists()


def test_members_of_a_shorter_list_are_counted_as_masked(tmp_path: Path) -> None:
    """A training image labelled under fewer classes than the list has is one to mask (law 9)."""
    one, image = member(1, "train")
    made = materialise([one], lambda _: image, tmp_path, class_list((*NAMES, "stain"), 2))
    assert made.masked_images == 1


def test_bytes_of_another_sample_are_refused(tmp_path: Path) -> None:
    """An image must have the hash that names it."""
    one, image = member(1, "train")
    with pytest.raises(DatasetRefused, match=one.sample_id):
        materialise([one], lambda _: image + b"x", tmp_path, class_list())


def test_what_was_written_opens_again(tmp_path: Path) -> None:
    """A folder opened later says the same about itself; writing it twice changes nothing."""
    first = write_dataset(tmp_path, NAMES, items(6, val=2))
    index = (tmp_path / "dataset.json").read_bytes()
    again = write_dataset(tmp_path, NAMES, items(6, val=2))
    assert open_dataset(tmp_path) == first == again
    assert (tmp_path / "dataset.json").read_bytes() == index


@pytest.mark.parametrize(
    ("known", "class_id", "expected"),
    [(2, 2, "class ids under 2"), (1, 1, "class ids under 1"), (3, 0, "1 to 2"), (0, 0, "1 to 2")],
)
def test_labels_outside_the_class_list_are_refused(
    tmp_path: Path, known: int, class_id: int, expected: str
) -> None:
    """A box of a class that the labels' own list does not have ends the run, naming the image."""
    box = BoxLabel(class_id=class_id, cx=0.5, cy=0.5, width=0.1, height=0.1)
    with pytest.raises(DatasetRefused, match=rf"image a: expected.*{expected}"):
        write_dataset(tmp_path, NAMES, [DatasetItem("a", b"", (box,), known)])


def test_a_dataset_without_training_images_is_refused(tmp_path: Path) -> None:
    """There must be something to learn from."""
    with pytest.raises(DatasetRefused, match="at least one training image"):
        write_dataset(tmp_path, NAMES, items(2, val=2))


def test_a_folder_without_index_is_refused(tmp_path: Path) -> None:
    """A folder somebody else wrote is named in the error."""
    with pytest.raises(DatasetRefused, match=r"dataset\.json"):
        open_dataset(tmp_path)


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    """Two images of one name would silently become one."""
    one = items(1, val=0)
    with pytest.raises(DatasetRefused, match="each image once"):
        write_dataset(tmp_path, NAMES, [*one, *one])


def test_a_file_is_linked_in_place_of_copied(tmp_path: Path) -> None:
    """Images that lie on the same disk cost no second copy."""
    source = tmp_path / "source.png"
    source.write_bytes(b"bytes")
    write_dataset(tmp_path / "out", NAMES, [DatasetItem("a", source, (), 2)])
    assert (tmp_path / "out" / "images" / "a.jpg").stat().st_ino == source.stat().st_ino


def test_shards_give_back_their_members(tmp_path: Path) -> None:
    """Every sample is found whichever shard holds it; other members are left alone."""
    rows = dict(member(seed)[::-1] for seed in range(3))
    images = {one.sample_id: image for image, one in rows.items()}
    names = sorted(images)
    for number, part in enumerate((names[:1], names[1:])):
        (tmp_path / f"{number}.tar").write_bytes(tar_of({name: images[name] for name in part}))
    with ShardReader([tmp_path / "0.tar", tmp_path / "1.tar"]) as reader:
        assert all(reader.image_of(name) == images[name] for name in names)


def test_shards_never_lead_outside(tmp_path: Path) -> None:
    """A member is found by its sample id alone; links and paths that climb are not followed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("0" * 64 + ".jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (tmp_path / "evil.tar").write_bytes(buffer.getvalue())
    with (
        ShardReader([tmp_path / "evil.tar"]) as reader,
        pytest.raises(DatasetRefused, match="no such member"),
    ):
        reader.image_of("0" * 64)


def test_a_shard_that_is_no_tar_is_refused_by_name(tmp_path: Path) -> None:
    """Bytes that are no tar are named."""
    (tmp_path / "broken.tar").write_bytes(b"\x00garbage" * 100)
    with pytest.raises(DatasetRefused, match=r"broken\.tar"):
        ShardReader([tmp_path / "broken.tar"])
