"""Hold splits to their rules: no leak, no evaluation on what was trained on, the same every time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.snapshots.splits import MAX_UNVERIFIED_SHARE, SplitItem, SplitPolicy, choose_members

POLICY = SplitPolicy(val_share=0.2, golden_share=0.0, replay_limit=1000, salt="plates")


def _item(number: int, **changes: object) -> SplitItem:
    item = SplitItem(
        sample_id=f"{number:064x}",
        group_id=f"group-{number}",
        classes=frozenset({number % 3}),
        verified=True,
        imported=False,
    )
    return replace(item, **changes)


def _shares(chosen: dict[str, str]) -> Counter[str]:
    return Counter(chosen.values())


def test_shares_are_kept_per_class() -> None:
    """Of a hundred samples a fifth is for validation, and every class is there, also a rare one."""
    items = [_item(number) for number in range(95)] + [
        _item(number, classes=frozenset({9})) for number in range(95, 100)
    ]
    chosen = choose_members(items, POLICY)
    assert _shares(chosen)["val"] == pytest.approx(20, abs=2)
    rare = Counter(chosen[item.sample_id] for item in items if 9 in item.classes)
    assert (rare["val"], rare["train"]) == (1, 4)


def test_a_group_is_never_cut() -> None:
    """Every member of a group has the same split."""
    items = [_item(number, group_id=f"group-{number // 4}") for number in range(80)]
    chosen = choose_members(items, POLICY)
    for group in range(20):
        assert len({chosen[item.sample_id] for item in items if item.group_id == f"group-{group}"}) == 1


def test_what_was_trained_on_is_never_validated_on() -> None:
    """Earlier splits stand; when a group joins both sides it goes to training."""
    items = [
        _item(0, before="train"),
        _item(1, before="val"),
        _item(2, before="val", group_id="joined"),
        _item(3, before="train", group_id="joined"),
        _item(4, before="golden", group_id="gold"),
        _item(5, before="train", group_id="gold"),
        *(_item(number) for number in range(10, 60)),
    ]
    chosen = choose_members(items, POLICY)
    splits = [chosen[item.sample_id] for item in items[:6]]
    assert splits == ["train", "val", "train", "train", "golden", "golden"]


def test_new_groups_do_not_move_old_ones() -> None:
    """When data grows, what was split keeps its side."""
    first = [_item(number) for number in range(50)]
    before = choose_members(first, POLICY)
    grown = [replace(item, before=before[item.sample_id]) for item in first]
    grown += [_item(number) for number in range(50, 100)]
    after = choose_members(grown, POLICY)
    assert {one: after[one] for one in before} == before
    assert _shares(after)["val"] == pytest.approx(20, abs=3)


def test_one_golden_member_makes_the_group_golden() -> None:
    """A near-duplicate of a golden image is never trained on."""
    items = [_item(number, imported=True, pinned="train", group_id="twins") for number in range(3)]
    items.append(_item(3, imported=True, pinned="golden", group_id="twins"))
    chosen = choose_members([*items, *(_item(number) for number in range(10, 30))], POLICY)
    assert {chosen[item.sample_id] for item in items} == {"golden"}


def test_imported_data_is_not_validated_on_where_mined_data_is() -> None:
    """The validation part speaks of what the line shows now."""
    items = [_item(number) for number in range(40)]
    items += [_item(number, imported=True, pinned="train") for number in range(100, 200)]
    chosen = choose_members(items, POLICY)
    assert "val" not in {chosen[item.sample_id] for item in items[40:]}
    assert _shares(chosen)["val"] == pytest.approx(8, abs=1)


def test_with_imported_data_alone_some_of_it_is_validated_on() -> None:
    """The first model of a task is trained on old data only, and judged on a part of it."""
    items = [_item(number, imported=True, pinned="train") for number in range(50)]
    assert _shares(choose_members(items, POLICY))["val"] == pytest.approx(10, abs=2)


def test_replay_is_capped_and_balanced() -> None:
    """Imported training data is cut to the limit, rare classes first served, always the same ones."""
    items = [_item(number) for number in range(20)]
    old = [_item(number, imported=True, pinned="train", classes=frozenset({0})) for number in range(100, 300)]
    old += [
        _item(number, imported=True, pinned="train", classes=frozenset({1})) for number in range(300, 310)
    ]
    policy = replace(POLICY, replay_limit=30)
    chosen = choose_members([*items, *old], policy)
    replayed = [item for item in old if item.sample_id in chosen]
    assert len(replayed) == 30
    assert sum(1 in item.classes for item in replayed) == 10
    assert choose_members([*old[::-1], *items], policy) == chosen
    assert all(item.sample_id in chosen for item in items)
    none = choose_members([*items, *old], replace(POLICY, replay_limit=0))
    assert not any(item.sample_id in none for item in old)


def test_unverified_labels_are_capped_and_never_evaluated_on() -> None:
    """Pseudo-labels only train, and only so many of them (law 4)."""
    items = [_item(number) for number in range(50)]
    items += [_item(number, verified=False) for number in range(100, 200)]
    chosen = choose_members(items, POLICY)
    unverified = [chosen[item.sample_id] for item in items[50:] if item.sample_id in chosen]
    assert set(unverified) == {"train"}
    assert len(unverified) == int(50 * MAX_UNVERIFIED_SHARE)
    held = [_item(900, pinned="golden", group_id="g"), _item(901, verified=False, group_id="g")]
    assert held[1].sample_id not in choose_members([*held, *items], POLICY)


def test_a_share_of_mined_groups_can_become_golden() -> None:
    """Where the task asks for it, a part of the line's own data is kept golden for good."""
    items = [_item(number) for number in range(100)]
    chosen = choose_members(items, replace(POLICY, golden_share=0.1))
    assert _shares(chosen)["golden"] == pytest.approx(10, abs=2)
    assert _shares(chosen)["val"] == pytest.approx(18, abs=3)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_the_data_no_group_leaks(data: st.DataObject) -> None:
    """For any mix of pins, earlier splits and groups: one split per group, evaluation verified only."""
    count = data.draw(st.integers(0, 30))
    pins = st.sampled_from([None, "train", "val", "golden"])
    items = [
        _item(
            number,
            group_id=f"group-{data.draw(st.integers(0, 8))}",
            verified=data.draw(st.booleans()),
            imported=data.draw(st.booleans()),
            pinned=data.draw(pins),
            before=data.draw(pins),
        )
        for number in range(count)
    ]
    chosen = choose_members(items, replace(POLICY, golden_share=0.1, replay_limit=5))
    split_of: dict[str, str] = {}
    for item in items:
        if item.sample_id not in chosen:
            continue
        split = chosen[item.sample_id]
        assert split_of.setdefault(item.group_id, split) == split
        assert item.verified or split == "train"
        assert item.before != "golden" or split == "golden"
        assert item.before != "train" or split != "val"
