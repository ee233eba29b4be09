"""Decide what a channel may hold: pure rules, no clock, no bucket, no keys.

The repository asks these before it signs anything, because a signature says "we mean this". Boxes check
the same things again (`edge_agent/ota/rules.py`): the two sides never share code, only documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleet_contracts.errors import ClassListConflict
from fleet_contracts.releases import Artifact, ChannelPolicy, Release
from flows.releases.errors import ReleaseConflict

RELEASE_FILE = "release.json"
MAX_FILES = 64


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Say what one file of a release really is."""

    sha256: str
    size_bytes: int


def require_complete(release: Release, files: Mapping[str, FileFacts]) -> None:
    """Check that a release's files are exactly the ones it names.

    Raises:
        ReleaseConflict: a file is missing, superfluous or another one than the release says, names are
            not plain, or there is no probe image for a box to test itself with.
    """
    where = f"release {release.version} of {release.task_id}/{release.channel}"
    named = {artifact.path: artifact for artifact in artifacts_of(release)}
    if not release.probes:
        raise ReleaseConflict(expected="at least one probe image", got="none", where=where,
                              now="Build the release with build_release, which always makes one.")
    if set(named) != set(files) or len(files) > MAX_FILES:
        raise ReleaseConflict(expected=f"the files {sorted(named)} (at most {MAX_FILES})",
                              got=str(sorted(files)), where=where)
    for path, artifact in named.items():
        _require_plain(path, where)
        found = files[path]
        if (found.sha256, found.size_bytes) != (artifact.sha256, artifact.size_bytes):
            raise ReleaseConflict(expected=f"{path} of {artifact.size_bytes} bytes, sha256 {artifact.sha256}",
                                  got=f"{found.size_bytes} bytes, sha256 {found.sha256}", where=where)
    if release.model_id != release.model.sha256:
        raise ReleaseConflict(expected=f"model_id {release.model.sha256}", got=release.model_id, where=where)


def require_continues(release: Release, latest: Release | None) -> None:
    """Check that a new release keeps the class ids of the channel's latest one (law 9).

    Raises:
        ReleaseConflict: the class list is no continuation, or the decision rules do not name every class.
    """
    where = f"release {release.version} of {release.task_id}/{release.channel}"
    try:
        release.decision_rules.require_names(release.class_list, where=where)
        if latest is not None:
            release.class_list.require_continues(latest.class_list, where=where)
    except ClassListConflict as error:
        raise ReleaseConflict(expected=error.expected, got=error.got, where=where, now=error.now) from error


def allow(policy: ChannelPolicy | None, release: Release, lowest_allowed: int | None) -> ChannelPolicy:
    """Return the channel's policy with `release` allowed and latest.

    Raises:
        ReleaseConflict: the version is not newer than what the channel had, or `lowest_allowed` is above it.
    """
    where = f"channel {release.task_id}/{release.channel}"
    lowest = lowest_allowed or (policy.lowest_allowed if policy else release.version)
    if policy is not None and release.version not in policy.allowed and release.version <= policy.latest:
        raise ReleaseConflict(expected=f"a version above {policy.latest}", got=str(release.version),
                              where=where, now="Take the number next_version gives.")
    if lowest > release.version or (policy is not None and lowest < policy.lowest_allowed):
        low = policy.lowest_allowed if policy else 1
        raise ReleaseConflict(expected=f"a lowest allowed release from {low} to {release.version}",
                              got=str(lowest), where=where)
    before = policy.allowed if policy else ()
    allowed = tuple(sorted({version for version in (*before, release.version) if version >= lowest}))
    return ChannelPolicy(task_id=release.task_id, channel=release.channel, allowed=allowed,
                         lowest_allowed=lowest, latest=max(allowed))


def withdraw(policy: ChannelPolicy, version: int) -> ChannelPolicy:
    """Return the policy without `version`; boxes that run it go back to the latest that is left.

    Raises:
        ReleaseConflict: it is the only allowed release, so boxes would have nothing to run.
    """
    left = tuple(kept for kept in policy.allowed if kept != version)
    if not left:
        raise ReleaseConflict(expected="another allowed release to go back to", got=f"only {version}",
                              where=f"channel {policy.task_id}/{policy.channel}",
                              now="Publish a release that works first.")
    return policy.model_copy(update={"allowed": left, "latest": max(left)})


def artifacts_of(release: Release) -> tuple[Artifact, ...]:
    """Return every file a release consists of beside its own document."""
    return (release.model, *(probe.artifact for probe in release.probes))


def _require_plain(path: str, where: str) -> None:
    safe = path.replace("-", "").replace("_", "").replace(".", "")
    if path == RELEASE_FILE or path.startswith(".") or not (safe.isascii() and safe.isalnum()):
        raise ReleaseConflict(expected="file names of letters, digits, dot, dash and underscore",
                              got=repr(path), where=where)
