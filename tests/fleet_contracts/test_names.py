"""Check names: ids, keys, topics, class lists and manifests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contracts import BadAddress, ClassListConflict, MalformedDocument, keys, run_id_of, topics
from fleet_contracts.manifest import decode_manifest, encode_manifest
from fleet_contracts.samples import ClassList, ClassRule, DecisionRules
from fleet_contracts.training import SnapshotHeader, SnapshotMember
from tests.fleet_contracts.examples import examples

SLUGS = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,20}\Z")
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
ONE = ClassList(task_id="t", version=1, names=("a", "b"))


@given(task=SLUGS, grant=HEX.map(lambda text: text[:32]), sample=HEX, image=st.booleans())
def test_incoming_keys_are_read_back(task: str, grant: str, sample: str, image: bool) -> None:
    """The sweep learns from a key alone which task, grant and sample it belongs to."""
    kind = "image" if image else "announcement"
    assert keys.parse_incoming(keys.incoming(task, grant, sample, kind)) == (task, grant, sample, kind)


@pytest.mark.parametrize(
    "key", ["", "tasks/t/incoming/x/y", "incoming/a/b", "tasks/t/samples/" + "a" * 64 + ".jpg"]
)
def test_foreign_keys_are_refused(key: str) -> None:
    """A key that is not ours is an error with the expected shape, never a guess."""
    with pytest.raises(BadAddress, match="tasks/<task>/incoming"):
        keys.parse_incoming(key)


@given(task=SLUGS, device=SLUGS)
def test_topics_are_read_back(task: str, device: str) -> None:
    """Every topic that is built can be parsed."""
    assert topics.parse(topics.up(task, device, "report")) == (task, "up", device, "report")
    assert topics.parse(topics.down(task, device, "order")) == (task, "down", device, "order")


@pytest.mark.parametrize(
    "topic", ["a/b", "whetstone/v1/t/up/d/order", "whetstone/v2/t/up/d/report", "whetstone/v1/t/up/d"]
)
def test_foreign_topics_are_refused(topic: str) -> None:
    """A kind that does not exist in that direction is refused too."""
    with pytest.raises(BadAddress):
        topics.parse(topic)


def test_run_is_named_by_what_decides_it() -> None:
    """The same inputs give the same run, whatever the order of the recipe's keys; any change another."""
    base = run_id_of(task_id="t", snapshot_id="s", start_sha256="w", recipe={"epochs": 8, "lr": 0.1})
    assert base == run_id_of(task_id="t", snapshot_id="s", start_sha256="w", recipe={"lr": 0.1, "epochs": 8})
    assert base != run_id_of(task_id="t", snapshot_id="s", start_sha256="w", recipe={"lr": 0.1, "epochs": 9})
    assert base != run_id_of(task_id="t", snapshot_id="s", start_sha256="x", recipe={"epochs": 8, "lr": 0.1})


@pytest.mark.parametrize(
    ("version", "names"),
    [(2, ("b", "a")), (2, ("a",)), (2, ("a", "x", "b")), (1, ("a", "b", "c"))],
)
def test_class_lists_only_grow_at_the_end(version: int, names: tuple[str, ...]) -> None:
    """Renaming, moving or removing a class, or growing without a new version, is refused (law 9)."""
    with pytest.raises(ClassListConflict):
        ClassList(task_id="t", version=version, names=names).require_continues(ONE, where="test")


def test_class_list_continues_itself_and_its_extension() -> None:
    """A list continues itself, and one more class continues it."""
    ONE.require_continues(ONE, where="test")
    ONE.with_class("c").require_continues(ONE, where="test")
    assert ONE.with_class("c").version == 2


def test_rules_must_name_every_class() -> None:
    """A box refuses a list whose added class has no decision rule."""
    rules = DecisionRules(classes=tuple(ClassRule(name=n, reject_at=0.5, unsure_at=0.2) for n in ONE.names))
    rules.require_names(ONE, where="test")
    with pytest.raises(ClassListConflict, match="'c'"):
        rules.require_names(ONE.with_class("c"), where="test")


def _members() -> tuple[SnapshotHeader, SnapshotMember]:
    header, member = examples()["snapshot_header.v1"], examples()["snapshot_member.v1"]
    assert isinstance(header, SnapshotHeader)
    assert isinstance(member, SnapshotMember)
    return header, member


def test_manifest_round_trip_and_id_do_not_depend_on_order() -> None:
    """The same members in any order are the same snapshot."""
    header, one = _members()
    header = header.model_copy(update={"members": 2})
    two = one.model_copy(update={"sample_id": "d" * 64, "group_id": "g2", "split": "val"})
    first, content = encode_manifest(header, [one, two])
    assert encode_manifest(header, [two, one])[0] == first
    assert decode_manifest(content, where="m") == (header, (one, two))


def test_manifest_refuses_a_group_in_two_splits_and_a_torn_file() -> None:
    """Near-duplicates never sit on both sides of a split; a cut file is noticed."""
    header, one = _members()
    leak = one.model_copy(update={"sample_id": "d" * 64, "split": "val"})
    with pytest.raises(MalformedDocument, match="one split"):
        encode_manifest(header.model_copy(update={"members": 2}), [one, leak])
    _, content = encode_manifest(header, [one])
    with pytest.raises(MalformedDocument, match="1 members"):
        decode_manifest(content.splitlines(keepends=True)[0], where="m")
