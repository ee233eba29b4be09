"""Test that releases become visible as a whole, once, and signed by the right keys."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from flows.errors import StoreAway
from flows.releases.errors import ChannelUnknown, KeysMissing, ReleaseConflict, RepositoryDamaged
from flows.releases.keys import create_keys, load_online
from flows.releases.repository import ReleaseRepository
from flows.store.memory import MemoryStore
from tests.flows.releases.release_kit import CHANNEL, TASK, Fleet, make_fleet, make_release


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return make_fleet(tmp_path)


def timestamp_of(fleet: Fleet) -> dict[str, object]:
    signed: dict[str, object] = json.loads(fleet.store.get("releases/metadata/timestamp.json"))["signed"]
    return signed


def test_keys_are_private_and_never_made_twice(tmp_path: Path) -> None:
    """Key files are readable by their owner alone, and a second call replaces none of them."""
    create_keys(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}
    assert len(before) == 5
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in before)
    create_keys(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pem")} == before


def test_offline_keys_taken_away_are_not_made_anew(tmp_path: Path) -> None:
    """Keys that a person rightly moved to a safe are not replaced by ones that no box trusts."""
    create_keys(tmp_path)
    for path in (tmp_path / "offline").iterdir():
        path.unlink()
    create_keys(tmp_path)
    assert not list((tmp_path / "offline").iterdir())


def test_a_missing_or_wrong_key_is_named(tmp_path: Path) -> None:
    """The error names the file and says what was expected of it."""
    with pytest.raises(KeysMissing, match=r"channel\.pem.*ed25519"):
        load_online(tmp_path)
    create_keys(tmp_path)
    (tmp_path / "online" / "snapshot.pem").write_text("not a key")
    with pytest.raises(KeysMissing, match=r"snapshot\.pem"):
        load_online(tmp_path)


def test_a_release_is_published_with_its_policy(fleet: Fleet) -> None:
    """After publishing, the channel allows the release and calls it the latest."""
    policy = fleet.repository.publish(*make_release(1))
    assert (policy.allowed, policy.latest, policy.lowest_allowed) == ((1,), 1, 1)
    policy = fleet.repository.publish(*make_release(2, model=b"better"))
    assert (policy.allowed, policy.latest) == ((1, 2), 2)
    assert fleet.reopened().channel_policy(TASK, CHANNEL) == policy
    assert [release.version for release in fleet.repository.releases(TASK, CHANNEL)] == [1, 2]
    assert fleet.repository.next_version(TASK, CHANNEL) == 3


def test_publishing_twice_is_publishing_once(fleet: Fleet) -> None:
    """The same release again changes nothing, not even the timestamp."""
    first = fleet.repository.publish(*make_release(1))
    before = timestamp_of(fleet)
    assert fleet.reopened().publish(*make_release(1)) == first
    assert timestamp_of(fleet) == before


def test_other_content_under_a_known_version_is_refused(fleet: Fleet) -> None:
    """A version never changes its content, also after it was withdrawn."""
    fleet.repository.publish(*make_release(1))
    fleet.repository.publish(*make_release(2, model=b"two"))
    with pytest.raises(ReleaseConflict, match="never changes"):
        fleet.repository.publish(*make_release(2, model=b"another two"))
    fleet.repository.withdraw(TASK, CHANNEL, 2)
    with pytest.raises(ReleaseConflict, match="never changes"):
        fleet.repository.publish(*make_release(2, model=b"another two"))


def test_publishing_a_withdrawn_release_again_does_not_revive_it(fleet: Fleet) -> None:
    """A flow that is repeated after its release was taken back does not send it out again."""
    fleet.repository.publish(*make_release(1))
    fleet.repository.publish(*make_release(2, model=b"two"))
    left = fleet.repository.withdraw(TASK, CHANNEL, 2)
    assert (left.allowed, left.latest) == ((1,), 1)
    assert fleet.repository.publish(*make_release(2, model=b"two")) == left
    assert fleet.repository.withdraw(TASK, CHANNEL, 2) == left
    assert fleet.repository.next_version(TASK, CHANNEL) == 3


def test_the_only_release_cannot_be_withdrawn(fleet: Fleet) -> None:
    """Boxes must never be left with nothing they may run."""
    fleet.repository.publish(*make_release(1))
    with pytest.raises(ReleaseConflict, match="go back"):
        fleet.repository.withdraw(TASK, CHANNEL, 1)


def test_lowest_allowed_drops_older_releases(fleet: Fleet) -> None:
    """Releases below the bound are neither allowed nor listed any more, and the bound never falls."""
    for version in (1, 2):
        fleet.repository.publish(*make_release(version, model=b"%d" % version))
    policy = fleet.repository.publish(*make_release(3, model=b"3"), lowest_allowed=2)
    assert (policy.allowed, policy.lowest_allowed) == ((2, 3), 2)
    assert [release.version for release in fleet.repository.releases(TASK, CHANNEL)] == [2, 3]
    with pytest.raises(ReleaseConflict, match="lowest allowed"):
        fleet.repository.publish(*make_release(4, model=b"4"), lowest_allowed=1)


@pytest.mark.parametrize(("changes", "what"), [
    ({"model_id": "0" * 64}, "model_id"),
    ({"probes": ()}, "probe"),
    ({"version": 9, "model": None}, "files"),
])
def test_a_release_that_contradicts_its_files_is_refused(
    fleet: Fleet, changes: dict[str, object], what: str
) -> None:
    """Nothing is signed that a box would have to refuse."""
    release, files = make_release(1)
    if changes.pop("model", "kept") is None:
        del files["model.onnx"]
    with pytest.raises(ReleaseConflict, match=what):
        fleet.repository.publish(release.model_copy(update=changes), files)


def test_a_file_of_another_hash_is_refused(fleet: Fleet) -> None:
    """The message gives both hashes."""
    release, files = make_release(1)
    files["model.onnx"] = b"exchanged"
    with pytest.raises(ReleaseConflict, match=release.model.sha256):
        fleet.repository.publish(release, files)


def test_file_names_must_be_plain(fleet: Fleet) -> None:
    """A name with a way out of its folder is refused."""
    with pytest.raises(ReleaseConflict, match="file names"):
        fleet.repository.publish(*make_release(1, probes={"../probe.jpg": b"x"}))


@pytest.mark.parametrize("names", [("missing", "scratch"), ("scratch",), ("scratch", "stain")])
def test_a_class_list_that_is_no_continuation_is_refused(fleet: Fleet, names: tuple[str, ...]) -> None:
    """Class ids are append-only on a channel, whoever publishes (law 9)."""
    fleet.repository.publish(*make_release(1))
    with pytest.raises(ReleaseConflict, match="continuation"):
        fleet.repository.publish(*make_release(2, names=names, list_version=2))


def test_a_grown_class_list_is_published_when_its_rules_name_every_class(fleet: Fleet) -> None:
    """List N+1 goes out only with decision rules for the added class (law 9)."""
    fleet.repository.publish(*make_release(1))
    grown, files = make_release(2, names=("scratch", "missing", "stain"), list_version=2)
    short = make_release(1)[0].decision_rules
    with pytest.raises(ReleaseConflict, match="decision rule"):
        fleet.repository.publish(grown.model_copy(update={"decision_rules": short}), files)
    assert fleet.repository.publish(grown, files).latest == 2


def test_an_unknown_channel_needs_the_offline_keys(fleet: Fleet) -> None:
    """The online key cannot open a channel for itself."""
    release, files = make_release(1)
    with pytest.raises(ChannelUnknown, match="add_channel"):
        fleet.repository.publish(release.model_copy(update={"channel": "canary"}), files)
    with pytest.raises(KeysMissing):
        fleet.repository.add_channel(TASK, "canary", fleet.keys / "nowhere")


def test_initialise_and_add_channel_twice_change_nothing(fleet: Fleet) -> None:
    """Both are done once, also when called by another process."""
    before, root = timestamp_of(fleet), fleet.repository.trusted_root()
    again = fleet.reopened()
    again.initialise(fleet.keys / "offline")
    again.add_channel(TASK, CHANNEL, fleet.keys / "offline")
    assert timestamp_of(fleet) == before
    assert again.trusted_root() == root == fleet.store.get("releases/metadata/1.root.json")


def test_initialise_goes_on_after_a_broken_attempt(tmp_path: Path) -> None:
    """A root that was given to boxes already is kept."""
    create_keys(tmp_path)
    store = CuttingStore(cut_at=2)
    repository = ReleaseRepository(store, tmp_path)
    with pytest.raises(StoreAway):
        repository.initialise(tmp_path / "offline")
    root = repository.trusted_root()
    store.cut_at = 0
    repository.initialise(tmp_path / "offline")
    assert repository.trusted_root() == root == store.get("releases/metadata/1.root.json")


def test_the_timestamp_is_signed_anew_without_a_new_snapshot(fleet: Fleet) -> None:
    """Hourly signing moves the expiry and nothing else."""
    fleet.repository.publish(*make_release(1))
    before = timestamp_of(fleet)
    fleet.clock.move(hours=1)
    version = fleet.reopened().resign_timestamp()
    after = timestamp_of(fleet)
    assert after["version"] == version == int(str(before["version"])) + 1
    assert after["meta"] == before["meta"]
    assert str(after["expires"]) > str(before["expires"])


def test_online_roles_are_renewed_at_half_their_life(fleet: Fleet) -> None:
    """An installation that publishes nothing for months does not expire."""
    fleet.repository.publish(*make_release(1))
    fleet.clock.move(days=200)
    before = timestamp_of(fleet)
    fleet.repository.resign_timestamp()
    assert timestamp_of(fleet)["meta"] != before["meta"]
    assert fleet.repository.channel_policy(TASK, CHANNEL) is not None


@pytest.mark.parametrize("name", ["timestamp.json", "{snapshot}.snapshot.json", "2.boards.stable.json"])
def test_metadata_that_our_keys_did_not_sign_is_not_built_upon(
    fleet: Fleet, tmp_path: Path, name: str
) -> None:
    """Who can write to the bucket cannot make us sign what they wrote."""
    fleet.repository.publish(*make_release(1))
    other = make_fleet(tmp_path / "thief")
    other.repository.publish(*make_release(1, model=b"evil"))
    snapshot = json.loads(fleet.store.get("releases/metadata/timestamp.json"))["signed"]["meta"]["snapshot.json"]
    key = "releases/metadata/" + name.format(snapshot=snapshot["version"])
    fleet.store.put(key, other.store.get(key))
    with pytest.raises(RepositoryDamaged, match=name.split(".")[-2]):
        fleet.repository.publish(*make_release(2, model=b"two"))


def test_a_torn_document_is_named(fleet: Fleet) -> None:
    """The error says which object and what to do."""
    fleet.store.put("releases/metadata/timestamp.json", b'{"signed"')
    with pytest.raises(RepositoryDamaged, match=r"timestamp\.json.*[Rr]estore"):
        fleet.repository.resign_timestamp()


class CuttingStore(MemoryStore):
    """Break off before the n-th write; 0 = never."""

    def __init__(self, cut_at: int) -> None:
        super().__init__()
        self.cut_at = cut_at
        self.writes = 0
        self.fired = 0

    def put(self, key: str, data: bytes) -> None:
        self.writes += 1
        if self.cut_at and self.writes == self.cut_at:
            self.fired += 1
            raise StoreAway(expected="an answer", got="none", where=key)
        super().put(key, data)


def test_a_publication_cut_at_any_write_is_invisible_and_can_be_repeated(tmp_path: Path) -> None:
    """Whatever write fails, boxes see the old release or the new one, and the second attempt succeeds."""
    create_keys(tmp_path)
    store = CuttingStore(0)
    repository = ReleaseRepository(store, tmp_path)
    repository.initialise(tmp_path / "offline")
    repository.add_channel(TASK, CHANNEL, tmp_path / "offline")
    repository.publish(*make_release(1))
    cuts = 0
    for version in range(2, 12):
        store.writes, store.cut_at, store.fired = 0, version - 1, 0
        try:
            repository.publish(*make_release(version, model=b"%d" % version))
        except StoreAway:
            cuts += 1
            seen = repository.channel_policy(TASK, CHANNEL)
            assert seen is not None
            assert seen.latest == version - 1
        assert store.fired == (1 if version <= 8 else 0)
        store.cut_at = 0
        assert repository.publish(*make_release(version, model=b"%d" % version)).latest == version
    assert cuts == 7


def test_two_writers_never_lose_a_release(fleet: Fleet) -> None:
    """Publishing and hourly signing from two processes at once keep every release."""
    fleet.repository.publish(*make_release(1))

    def sign_often() -> None:
        for _ in range(20):
            fleet.reopened().resign_timestamp()

    signer = threading.Thread(target=sign_often)
    signer.start()
    for version in range(2, 8):
        fleet.repository.publish(*make_release(version, model=b"%d" % version))
    signer.join()
    policy = fleet.reopened().channel_policy(TASK, CHANNEL)
    assert policy is not None
    assert policy.allowed == tuple(range(1, 8))
