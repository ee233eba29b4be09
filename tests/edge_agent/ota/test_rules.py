"""Test which signed releases a box may run, and which of them it chooses."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from edge_agent.ota.errors import ReleaseRefused
from edge_agent.ota.rules import Box, choose, files_of, require_fits, require_signed
from fleet_contracts.ids import sha256_of
from fleet_contracts.releases import ChannelPolicy, Release, RolloutOrder
from fleet_contracts.samples import ClassList, DecisionRules
from tests.flows.releases.release_kit import CHANNEL, TASK, make_release, rules_for

BOX = Box(TASK, CHANNEL, "0.1.0")


def policy(*allowed: int, latest: int | None = None, lowest: int = 1) -> ChannelPolicy:
    return ChannelPolicy(task_id=TASK, channel=CHANNEL, allowed=allowed, lowest_allowed=lowest,
                         latest=latest or max(allowed, default=1))


def order(version: int) -> RolloutOrder:
    return RolloutOrder(task_id=TASK, device_id="box-a", rollout_id="r", channel=CHANNEL,
                        release_version=version, issued_at=datetime(2026, 5, 1, tzinfo=timezone.utc))


@pytest.mark.parametrize(("allowed", "lowest", "ordered", "serving", "chosen", "problem"), [
    ((1, 2), 1, None, 0, 2, False),     # nobody said anything: latest
    ((1, 2), 1, 1, 0, 1, False),        # an order chooses
    ((1, 2), 1, 1, 2, 1, False),        # also backwards
    ((1, 2), 1, 3, 2, 2, True),         # not allowed (yet): stay
    ((1, 2), 1, 3, 0, 2, True),         # not allowed and nothing serves: latest
    ((2, 3), 1, 1, 1, 3, True),         # what serves was withdrawn, too: latest
    ((1, 2, 3), 2, 1, 1, 3, True),      # below the lowest allowed
    ((), 1, None, 1, None, True),       # nothing allowed at all
])
def test_choice(allowed: tuple[int, ...], lowest: int, ordered: int | None, serving: int,
                chosen: int | None, problem: bool) -> None:  # noqa: PLR0913, PLR0917 - a table row
    """The order chooses among what is allowed; without one, the latest is taken."""
    choice = choose(policy(*allowed, lowest=lowest), None if ordered is None else order(ordered), serving)
    assert (choice.version, bool(choice.problem)) == (chosen, problem)


def grown(release: Release, version: int, *names: str) -> Release:
    return release.model_copy(update={"class_list": ClassList(task_id=TASK, version=version, names=names),
                                      "decision_rules": rules_for(names)})


@pytest.mark.parametrize(("running", "names", "fits"), [
    (("scratch", "missing"), ("scratch", "missing"), True),
    (("scratch", "missing"), ("scratch", "missing", "stain"), True),
    (("scratch", "missing", "stain"), ("scratch", "missing"), True),    # going back
    (("scratch", "missing"), ("missing", "scratch"), False),            # moved
    (("scratch", "missing"), ("scratch", "dent"), False),               # renamed
    (("scratch", "missing", "stain"), ("scratch", "dent"), False),      # going back to another list
])
def test_class_lists(running: tuple[str, ...], names: tuple[str, ...], fits: bool) -> None:
    """One list must continue the other, in whichever direction the box moves (law 9)."""
    base, _ = make_release(5)
    new = grown(base, len(names), *names)
    old = grown(base, len(running), *running)
    if fits:
        require_fits(new, 5, BOX, old)
    else:
        with pytest.raises(ReleaseRefused, match="continuation"):
            require_fits(new, 5, BOX, old)


def test_a_class_without_a_rule_is_refused() -> None:
    """A box takes list N+1 only when its decision rules name the added class (law 9)."""
    release = grown(make_release(5)[0], 2, "scratch", "missing", "stain")
    release = release.model_copy(update={"decision_rules": rules_for(("scratch", "missing"))})
    with pytest.raises(ReleaseRefused, match="decision rule"):
        require_fits(release, 5, BOX, None)


@pytest.mark.parametrize("where", ["rules", "class", "region"])
def test_decision_rules_from_the_future_are_refused(where: str) -> None:
    """A key this agent would leave out would make it judge otherwise than the gate did (law 6)."""
    release, _ = make_release(5)
    rules = release.decision_rules.model_dump(mode="json")
    rules["regions"] = [{"name": "board", "polygon": [[0, 0], [1, 0], [1, 1]]}]
    known = release.model_copy(update={"decision_rules": DecisionRules.model_validate(rules)})
    require_fits(known, 5, BOX, None)
    part = {"rules": rules, "class": rules["classes"][0], "region": rules["regions"][0]}[where]
    part["added_in_2031"] = 1
    newer = release.model_copy(update={"decision_rules": DecisionRules.model_validate(rules)})
    with pytest.raises(ReleaseRefused, match="added_in_2031"):
        require_fits(newer, 5, BOX, None)


@pytest.mark.parametrize(("changes", "message"), [
    ({"task_id": "cables"}, "cables"),
    ({"channel": "canary"}, "canary"),
    ({"version": 6}, "6"),
    ({"min_agent": "0.2.0"}, "agent 0.2.0"),
    ({"device_classes": ("orin-nano",)}, "orin-nano"),
    ({"probes": ()}, "probe"),
    ({"model_id": "0" * 64}, "model_id"),
])
def test_refused(changes: dict[str, object], message: str) -> None:
    """Each rule refuses on its own and says what it wanted."""
    release, _ = make_release(5)
    require_fits(release, 5, BOX, None)
    with pytest.raises(ReleaseRefused, match=message):
        require_fits(release.model_copy(update=changes), 5, BOX, None)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "x" * 65, "model.onnx", "release.json"])
def test_file_names_must_be_plain_and_different(name: str) -> None:
    """No file of a release is written outside its folder or over another one."""
    release, _ = make_release(5, probes={name: b"x"})
    with pytest.raises(ReleaseRefused, match="file names"):
        require_fits(release, 5, BOX, None)


def test_a_device_of_its_class_takes_a_release_made_for_it() -> None:
    """A release for one device class runs there."""
    release, _ = make_release(5)
    only = release.model_copy(update={"device_classes": ("orin-nano",)})
    require_fits(only, 5, Box(TASK, CHANNEL, "0.1.0", ("orin-nano",)), None)


def test_a_release_must_name_the_signed_file() -> None:
    """The release's word and the signature beside it agree."""
    release, _ = make_release(5)
    model = files_of(release)[-1]
    require_signed(model, model.size_bytes, model.sha256)
    with pytest.raises(ReleaseRefused, match=sha256_of(b"other")):
        require_signed(model, model.size_bytes, sha256_of(b"other"))
