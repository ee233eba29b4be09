"""Hold the words all sides share: ids, documents, bucket keys and MQTT topics; frozen, versioned, no I/O."""

from __future__ import annotations

from fleet_contracts.base import UtcTime, Value, WireDocument, decode, encode, utc_now
from fleet_contracts.errors import (
    BadAddress,
    ClassListConflict,
    ContractError,
    ForeignDocument,
    MalformedDocument,
)
from fleet_contracts.ids import run_id_of, sample_id_of, sha256_of

__all__ = [
    "BadAddress",
    "ClassListConflict",
    "ContractError",
    "ForeignDocument",
    "MalformedDocument",
    "UtcTime",
    "Value",
    "WireDocument",
    "decode",
    "encode",
    "run_id_of",
    "sample_id_of",
    "sha256_of",
    "utc_now",
]
