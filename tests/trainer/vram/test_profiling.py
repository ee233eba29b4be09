"""Ask for profiles: once for each content, from the cache after that, and never for what is no detector."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.trainer.vram.conftest import TINY, TWO_HEADS
from trainer.errors import TrainerError
from trainer.vram import EstimateRefused, ModelProfile, TrainingShape, estimate_vram, profile_of, profiling
from trainer.vram.errors import TraceFailed


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a child would be started."""

    def started(*_given: object) -> ModelProfile:
        raise AssertionError("a child was started")

    monkeypatch.setattr(profiling, "_traced", started)


@pytest.mark.usefixtures("no_child", "tiny")
def test_a_known_network_is_not_traced_again(tiny: ModelProfile, cache: Path, tmp_path: Path) -> None:
    """The same content under another path comes from the cache, exactly as it was."""
    other = shutil.copy(TINY, tmp_path / "tiny.yaml")
    assert profile_of(TINY, 2, cache=cache) == tiny
    assert profile_of(other, ("cat", "dog"), cache=cache) == tiny


def test_other_content_is_traced_anew(
    tiny: ModelProfile, no_child: None, cache: Path, tmp_path: Path
) -> None:
    """Another file, class count or number of frozen layers is another network."""
    other = tmp_path / "tiny.yaml"
    other.write_text(Path(TINY).read_text().replace("24", "32"))
    for asked, classes, frozen in ((other, 2, 0), (TINY, 3, 0), (TINY, 2, 1)):
        with pytest.raises(AssertionError, match="a child was started"):
            profile_of(asked, classes, cache=cache, freeze_layers=frozen)


def test_a_torn_cache_file_is_made_again(
    tiny: ModelProfile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a document is no profile; the file is replaced by a whole one."""
    own = tmp_path / "profiles"
    shutil.copytree(cache, own)
    for place in own.glob("*.json"):
        place.write_bytes(place.read_bytes()[:1000])
    monkeypatch.setattr(profiling, "_traced", lambda _request: tiny)
    assert profile_of(TINY, 2, cache=own) == tiny
    assert tiny in [ModelProfile.model_validate_json(path.read_bytes()) for path in whole(own)]


def whole(folder: Path) -> list[Path]:
    """Return the files that are more than the torn half."""
    return [path for path in folder.glob("*.json") if path.stat().st_size > 1000]


def test_frozen_layers_save_activations_and_states(tiny: ModelProfile) -> None:
    """What no gradient flows through is not kept, and has no gradients and states."""
    frozen = profile_of(TINY, 2, freeze_layers=3)
    shape = TrainingShape(320, 8, freeze_layers=3)
    less, more = estimate_vram(frozen, shape), estimate_vram(tiny, shape)
    for term in ("activations", "optimizer"):
        assert less.terms[term] < more.terms[term], term


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("yolo99z", "does not exist"),
        ("yolo11n-seg", "Segment head"),
        ("rtdetr-l.yaml", "head"),
        ("/no/such/weights.pt", "expected a file, got none"),
    ],
)
def test_what_is_no_detector_is_refused(model: str, said: str) -> None:
    """The error names the model and says what would do."""
    with pytest.raises(EstimateRefused, match=said) as caught:
        profile_of(model, 2)
    assert caught.value.diagnostics()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """Bytes that cannot be unpickled are told as such."""
    path = tmp_path / "weights.pt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(EstimateRefused, match="an ultralytics checkpoint"):
        profile_of(path, 2)


def test_no_classes_are_refused() -> None:
    """Nothing is started for an empty class list."""
    with pytest.raises(EstimateRefused, match="at least one class"):
        profile_of(TWO_HEADS, ())


def test_a_child_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner waits a bounded time, then hears what to do."""
    monkeypatch.setattr(profiling, "_SECONDS", 0.01)
    with pytest.raises(TraceFailed) as caught:
        profile_of(TWO_HEADS, 2)
    assert isinstance(caught.value, TrainerError)
    assert caught.value.diagnostics()
