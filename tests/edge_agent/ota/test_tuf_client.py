"""Attack the release server, the line and the box's cache; the box must believe signatures alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.ota.disk import Disk
from edge_agent.ota.errors import MetadataExpired, MetadataRefused, SourceAway, TargetRefused
from edge_agent.ota.floor import Floor, Seen
from edge_agent.ota.tuf_client import TufClient
from fleet_contracts.base import encode
from fleet_contracts.releases import ChannelPolicy
from flows.releases import metadata
from flows.releases.keys import load_online
from tests.edge_agent.ota.ota_kit import CHANNEL, TASK, World, make_world
from tests.flows.releases.release_kit import make_fleet, make_release

TIMESTAMP = "metadata/timestamp.json"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    made.fleet.repository.publish(*make_release(1))
    return made


def client(world: World) -> TufClient:
    folder = world.folder / "client"
    folder.mkdir(exist_ok=True)
    return TufClient(world.server, world.fleet.repository.trusted_root(), folder, Disk())


def policy(world: World) -> ChannelPolicy:
    channel = client(world).refresh(TASK, CHANNEL)
    assert channel is not None
    return channel.policy


def publish_more(world: World, version: int = 2) -> None:
    world.fleet.repository.publish(*make_release(version, model=b"%d" % version))


def test_the_channel_is_read_as_it_was_published(world: World) -> None:
    """A refresh gives the policy and what was signed of every file."""
    channel = client(world).refresh(TASK, CHANNEL)
    assert channel is not None
    assert channel.policy == world.fleet.repository.channel_policy(TASK, CHANNEL)
    target = channel.target(1, "model.onnx")
    assert world.server.files[target.path] == b"an onnx file"
    with pytest.raises(TargetRefused, match=r"other\.bin"):
        channel.target(1, "other.bin")


def test_a_channel_nobody_delegated_has_no_release(world: World) -> None:
    """An unknown channel is an empty one."""
    assert client(world).refresh(TASK, "canary") is None


def test_a_refresh_without_news_asks_for_little(world: World) -> None:
    """Polling costs two small reads and the policy."""
    policy(world)
    world.server.asked.clear()
    policy(world)
    assert sum(world.server.asked.values()) <= 3


def test_a_replayed_timestamp_is_refused(world: World) -> None:
    """Old but properly signed metadata is no news (rollback)."""
    old = world.server.files[TIMESTAMP]
    publish_more(world)
    assert policy(world).latest == 2
    world.server.files[TIMESTAMP] = old
    with pytest.raises(MetadataRefused, match="version"):
        policy(world)


@pytest.mark.parametrize("torn", [("timestamp.json", "snapshot.json"),
                                  ("timestamp.json", "snapshot.json", "targets.json", "boards.stable.json")])
@pytest.mark.parametrize("how", ["truncate", "remove"])
def test_a_replay_after_a_power_loss_is_refused(world: World, torn: tuple[str, ...], how: str) -> None:
    """The floor still knows what the torn cache has forgotten; python-tuf alone would believe the old one."""
    old = world.server.files[TIMESTAMP]
    publish_more(world)
    policy(world)
    for name in torn:
        path = world.folder / "client" / "metadata" / name
        assert path.exists()
        if how == "truncate":
            path.write_bytes(b"")
        else:
            path.unlink()
    world.server.files[TIMESTAMP] = old
    with pytest.raises(MetadataRefused, match="or newer, got version"):
        policy(world)
    del world.server.files[TIMESTAMP]
    assert policy(world).latest == 2


def test_the_floor_is_raised_before_anything_is_used(world: World) -> None:
    """A power cut right after a refresh leaves the raised floor, not the old one."""
    publish_more(world)
    seen: list[bool] = []

    class Watching(Disk):
        def write(self, path: Path, content: bytes) -> None:
            seen.append(world.server.asked[TIMESTAMP] > 0
                        and not any("channel.json" in asked for asked in world.server.asked))
            super().write(path, content)

    folder = world.folder / "client"
    folder.mkdir()
    TufClient(world.server, world.fleet.repository.trusted_root(), folder, Watching()).refresh(TASK, CHANNEL)
    assert seen == [True]


def test_an_altered_floor_is_no_floor_to_ignore(world: World) -> None:
    """A floor that cannot be read stops updates instead of opening the door."""
    policy(world)
    (world.folder / "client" / "floor.json").write_bytes(b"{}")
    with pytest.raises(MetadataRefused, match=r"floor\.json"):
        policy(world)


def test_an_expired_timestamp_is_refused(world: World) -> None:
    """A freeze shows after the timestamp's life."""
    world.fleet.clock.move(days=-8)
    world.fleet.repository.resign_timestamp()
    with pytest.raises(MetadataExpired, match="expired"):
        policy(world)


def test_metadata_of_other_keys_is_refused(world: World, tmp_path: Path) -> None:
    """Who owns the server but not the keys gets nowhere."""
    thief = make_fleet(tmp_path / "thief")
    thief.repository.publish(*make_release(1, model=b"evil"))
    for info in thief.store.list("releases/metadata/"):
        world.server.files[info.key.removeprefix("releases/")] = thief.store.get(info.key)
    with pytest.raises(MetadataRefused, match="signed by"):
        policy(world)


def test_a_thief_with_the_timestamp_key_alone_brings_no_release(world: World, tmp_path: Path) -> None:
    """Roles are separate: a timestamp may only point to a snapshot that the snapshot key signed."""
    thief = make_fleet(tmp_path / "thief")
    thief.repository.publish(*make_release(1, model=b"evil"))
    stamp = metadata.read(metadata.Timestamp, thief.store.get(f"releases/{TIMESTAMP}"),
                          load_online(thief.keys).timestamp.public_key, where="thief")
    stamp.version = 99
    name = f"metadata/{stamp.snapshot_meta.version}.snapshot.json"
    world.server.files[name] = thief.store.get(f"releases/{name}")
    world.server.files[TIMESTAMP] = metadata.sign(stamp, load_online(world.fleet.keys).timestamp)
    with pytest.raises(MetadataRefused, match="signed by"):
        policy(world)


@pytest.mark.parametrize("name", [TIMESTAMP, "metadata/2.root.json"])
def test_endless_metadata_is_cut_off(world: World, name: str) -> None:
    """An answer without end costs a bounded number of bytes."""
    world.server.files.setdefault(name, b"{")
    world.server.endless.add(name)
    with pytest.raises(MetadataRefused, match="exceeding"):
        policy(world)
    assert world.server.asked[name] == 1


@pytest.mark.parametrize("kind", ["channel.json", "boards.stable.json", "snapshot.json"])
def test_a_tampered_document_is_refused(world: World, kind: str) -> None:
    """One flipped bit in any signed document is found."""
    paths = sorted(path for path in world.server.files if path.endswith(kind) and not path.endswith("/1." + kind))
    content = bytearray(world.server.files[paths[-1]])
    content[len(content) // 2] ^= 1
    world.server.files[paths[-1]] = bytes(content)
    with pytest.raises((MetadataRefused, TargetRefused)):
        policy(world)


def test_a_server_that_is_away_is_no_refusal(world: World) -> None:
    """A broken line is told apart from a lie."""
    world.server.away = True
    with pytest.raises(SourceAway):
        policy(world)


def test_a_line_that_breaks_in_the_middle_is_no_refusal(world: World) -> None:
    """Half an answer is a broken line, too."""
    world.server.cut_after = 0
    with pytest.raises(SourceAway):
        policy(world)
    assert world.server.cuts > 0


def test_the_policy_of_another_channel_is_refused(tmp_path: Path) -> None:
    """A channel key that speaks for two channels cannot pass one's policy off as the other's."""
    fleet = make_world(tmp_path)
    fleet.fleet.repository.publish(*make_release(1))
    bucket, published = fleet.fleet.repository._bucket, fleet.fleet.repository._bucket.load()
    targets = bucket.read_channel("boards.stable", published)
    wrong = ChannelPolicy(task_id=TASK, channel="canary", allowed=(1,), lowest_allowed=1, latest=1)
    bucket.put_target(targets, "boards/stable/channel.json", encode(wrong))
    targets.version += 1
    bucket.put_channel("boards.stable", targets, published)
    bucket.point_to(published)
    with pytest.raises(MetadataRefused, match="canary"):
        policy(fleet)


def test_new_keys_start_a_new_count() -> None:
    """After a stolen key signed an absurd version and was revoked, the box is not locked out for good."""
    floor = Floor({"timestamp": Seen(2**31, ("stolen",))})
    floor.check({"timestamp": Seen(5, ("fresh",)), "snapshot": Seen(1, ("fresh",))})
    with pytest.raises(MetadataRefused, match="timestamp"):
        floor.check({"timestamp": Seen(5, ("stolen",)), "snapshot": Seen(1, ("s",))})


def test_a_role_that_vanishes_is_a_rollback() -> None:
    """A snapshot that forgets a channel is older than the one that knew it."""
    floor = Floor({"snapshot": Seen(3, ("s",)), "boards.stable": Seen(2, ("s",))})
    with pytest.raises(MetadataRefused, match=r"boards\.stable"):
        floor.check({"snapshot": Seen(4, ("s",))})


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"roles": 3}', b'{"roles": {"root": {"version": "x"}}}'])
def test_a_torn_floor_does_not_parse(content: bytes) -> None:
    """Every other content than a floor is an error."""
    with pytest.raises(ValueError):
        Floor.from_bytes(content)
