"""Name what can keep the embedded services from running.

FlowsError
└── UpError                  the services of this folder cannot be run here
├── AlreadyRunning       another supervisor holds the folder
├── ProgramMissing       a server program is not installed
└── NotRunning           something asked for the services and no supervisor holds the folder
"""

from __future__ import annotations

from flows.errors import FlowsError


class UpError(FlowsError):
    """Tell that the services of a folder cannot be run."""


class AlreadyRunning(UpError):
    """Tell that another supervisor holds the folder; there is nothing to do."""


class ProgramMissing(UpError):
    """Tell that a server program is neither installed nor shipped with a package."""


class NotRunning(UpError):
    """Tell that no supervisor runs the services of this folder."""
