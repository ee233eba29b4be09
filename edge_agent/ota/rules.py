"""Decide whether a signed release may run on this box: pure rules, no disk, no network, no clock.

A signature says who made a release, not that it fits here. Every rule below is asked; the first that is
broken refuses the release, and the old model keeps serving.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from edge_agent.ota.errors import ReleaseRefused
from fleet_contracts.errors import ClassListConflict
from fleet_contracts.releases import Artifact, ChannelPolicy, Release, RolloutOrder

RELEASE_FILE = "release.json"
MAX_FILES = 64
_PLAIN_NAME = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")


@dataclass(frozen=True, slots=True)
class Box:
    """Say what a release must fit."""

    task_id: str
    channel: str
    agent_version: str
    device_classes: Collection[str] = ("any",)


@dataclass(frozen=True, slots=True)
class Choice:
    """Say which release to run, and what is wrong with the order, if anything."""

    version: int | None
    problem: str = ""


def choose(policy: ChannelPolicy, order: RolloutOrder | None, serving: int) -> Choice:
    """Choose among the releases the signed channel allows; the order is a hint (law 7).

    With an order that the channel does not allow, the box keeps what it runs as long as that is allowed.
    Without any order ever received it follows the channel's latest.
    """
    allowed = {version for version in policy.allowed if version >= policy.lowest_allowed}
    if not allowed:
        return Choice(None, f"channel {policy.channel} allows no release at all")
    wanted = policy.latest if order is None else order.release_version
    if wanted in allowed:
        return Choice(wanted)
    problem = f"release {wanted} was ordered, the signed channel allows {sorted(allowed)}"
    if serving in allowed:
        return Choice(serving, problem)
    return Choice(policy.latest if policy.latest in allowed else max(allowed), problem)


def require_fits(release: Release, version: int, box: Box, running: Release | None) -> None:
    """Check a signed release before its model is fetched.

    Steps: (1) it is the release that was asked for; (2) its class list continues the running one, or the
    other way round when going back, and its decision rules name every class (law 9) and say nothing that this
    agent would leave out, or it would judge otherwise than the gate; (3) this agent and device can run it;
    (4) it can be tested here, and its files have plain names.

    Raises:
        ReleaseRefused: a rule is broken; the message says which.
    """
    where = f"release {version} of {box.task_id}/{box.channel}"
    got = (release.task_id, release.channel, release.version)
    _require(got == (box.task_id, box.channel, version), where,
             f"task, channel and version {(box.task_id, box.channel, version)}", str(got))  # (1)
    try:  # (2)
        release.decision_rules.require_names(release.class_list, where=where)
        if running is not None:
            older, newer = sorted((running, release), key=lambda each: each.class_list.version)
            newer.class_list.require_continues(older.class_list, where=where)
    except ClassListConflict as error:
        raise ReleaseRefused(expected=error.expected, got=error.got, where=where, now=error.now) from error
    rules = release.decision_rules
    unknown = {key for part in (rules, *rules.classes, *rules.regions) for key in part.model_extra or ()}
    _require(not unknown, where, "decision rules this agent knows all of", f"unknown keys {sorted(unknown)}")
    _require(_numbers(release.min_agent) <= _numbers(box.agent_version), where,  # (3)
             f"agent {release.min_agent} or newer", f"agent {box.agent_version}")
    _require(bool({"any", *box.device_classes} & set(release.device_classes)), where,
             f"a device of {list(release.device_classes)}", str(list(box.device_classes)))
    files = files_of(release)  # (4)
    _require(bool(release.probes) and len(files) <= MAX_FILES, where,
             f"1 to {MAX_FILES - 1} probe images", str(len(release.probes)))
    names = [RELEASE_FILE, *(artifact.path for artifact in files)]
    _require(all(_PLAIN_NAME.match(name) for name in names) and len(set(names)) == len(names), where,
             "different, plain file names", str(names))
    _require(release.model_id == release.model.sha256, where,
             f"model_id {release.model.sha256}", release.model_id)


def require_signed(artifact: Artifact, length: int, sha256: str) -> None:
    """Check that a release names the very file that was signed beside it.

    Raises:
        ReleaseRefused: it names another.
    """
    _require((artifact.size_bytes, artifact.sha256) == (length, sha256), artifact.path,
             f"the signed file of {length} bytes, sha256 {sha256}",
             f"{artifact.size_bytes} bytes, sha256 {artifact.sha256}")


def files_of(release: Release) -> tuple[Artifact, ...]:
    """Return every file of a release beside its own document, probe images first: they are small."""
    return (*(probe.artifact for probe in release.probes), release.model)


def _require(holds: object, where: str, expected: str, got: str) -> None:
    if not holds:
        raise ReleaseRefused(expected=expected, got=got, where=where,
                             now="The old model keeps serving; publish a release that fits this box.")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", version.split("+", maxsplit=1)[0])[:3])
