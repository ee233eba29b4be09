"""Name what can go wrong when releases are signed and published.

    FlowsError
    └── ReleaseError                 a release was not published; what boxes see is unchanged
        ├── KeysMissing              a signing key is not where it should be
        ├── RepositoryDamaged        metadata in the bucket is missing, torn or not signed by our keys
        ├── ChannelUnknown           the offline targets key never delegated to this task and channel
        └── ReleaseConflict          the release contradicts its files, its channel or its class list

Every message says what was expected, what was got and where; `diagnostics()` says what to do now.
"""

from __future__ import annotations

from flows.errors import FlowsError


class ReleaseError(FlowsError):
    """Tell that a release could not be published."""

    remedy = "Nothing was published and boxes keep what they have; publish again."


class KeysMissing(ReleaseError):
    """Tell that a private key file is absent, unreadable or not ed25519."""


class RepositoryDamaged(ReleaseError):
    """Tell that published metadata cannot be built upon, because it is not what our keys signed."""


class ChannelUnknown(ReleaseError):
    """Tell that nobody delegated this task and channel to the online channel key."""


class ReleaseConflict(ReleaseError):
    """Tell that a release disagrees with its files, with what its channel holds, or with the class list."""
