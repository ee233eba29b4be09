"""Run every cloud service of one installation on this machine, supervised, with its data in one folder."""

from __future__ import annotations
