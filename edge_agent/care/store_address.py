"""Remember where uploads go, for the doctor: a box learns the store's address from its grants alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.files import write_atomically

FILE = "store-address"


class StoreAddress:
    """Keep scheme, host and port of the last upload in `data_dir`; paths and queries are secrets."""

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / FILE
        self._known = self.read()

    def read(self) -> str:
        """Return the address, "" while none is known."""
        with suppress(OSError, UnicodeDecodeError):
            return self._file.read_text(encoding="utf-8").strip()
        return ""

    def remember(self, url: str) -> None:
        """Write the address of a presigned URL if it is a new one; on a full disk it stays unknown."""
        parts = urlsplit(url)
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
        if parts.netloc and address != self._known:
            self._known = address
            with suppress(OSError):
                write_atomically(self._file, address.encode())
