"""Name what can go wrong with rented machines.

FlowsError
└── GpuError                 a machine could not be had or looked after
├── ProviderAway         the provider does not answer: try again later
├── LaunchRefused        it answers that it will not start this: choose another offer
├── TokenRefused         our token is wrong, has ended, or may not do this: a person has to renew it
└── LeaseEnded           the lease is over, so nothing may be started under it
"""

from __future__ import annotations

from flows.errors import FlowsError


class GpuError(FlowsError):
    """Tell that a machine could not be had or looked after."""


class ProviderAway(GpuError):
    """Tell that a provider does not answer; the same call may work later."""


class LaunchRefused(GpuError):
    """Tell that a provider will not start this machine; the same call will be refused again."""


class TokenRefused(GpuError):
    """Tell that a provider does not take our token; the message names which, and how to renew it."""


class LeaseEnded(GpuError):
    """Tell that a lease is over: nothing may be started under it (law 8)."""
