"""Put bytes to presigned URLs over HTTP with urllib3. URLs are secrets: only host and path are ever told."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

import urllib3

from edge_agent.errors import StoreAway, UploadRefused
from edge_agent.upload.rate import PacedBody, TokenBucket

CONNECT_S = 4.0
READ_S = 30.0
TRY_LATER = (408, 425, 429)


class HttpPutter:
    """Put over pooled connections, without redirects and without retries of its own.

    Args:
        ca_file: who signs the store's certificate; None = the system's authorities.
        bucket: paces all puts together; None = as fast as the line allows.
    """

    def __init__(self, ca_file: Path | None = None, bucket: TokenBucket | None = None) -> None:
        self._bucket = bucket or TokenBucket(0)
        self._closed = threading.Event()
        self._pool = urllib3.PoolManager(
            num_pools=4,
            maxsize=2,
            retries=False,
            ca_certs=None if ca_file is None else str(ca_file),
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
        )

    def put(self, url: str, content: bytes, media_type: str) -> None:
        """Put `content` in chunks and judge the store's answer."""
        where = _public_part(url)
        headers = {"Content-Type": media_type, "Content-Length": str(len(content))}
        body = cast("IO[bytes]", PacedBody(content, self._bucket, self._closed))
        try:
            answer = self._pool.request("PUT", url, body=body, headers=headers, redirect=False)
        except (urllib3.exceptions.LocationValueError, urllib3.exceptions.URLSchemeUnknown) as error:
            raise UploadRefused(
                expected="an http or https URL", got=type(error).__name__, where=where
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreAway(
                expected="an answer of the store", got=type(error).__name__, where=where
            ) from error
        if 200 <= answer.status < 300:
            return
        got = f"HTTP {answer.status}"
        if answer.status >= 500 or answer.status in TRY_LATER:
            raise StoreAway(expected="HTTP 200", got=got, where=where)
        raise UploadRefused(expected="HTTP 200", got=got, where=where, now="A new grant is asked for.")

    def close(self) -> None:
        """Give up what is being put and close the pooled connections."""
        self._closed.set()
        self._pool.clear()


def _public_part(url: str) -> str:
    """Return host and path; the query holds the signature."""
    parts = urlsplit(url)
    return f"{parts.hostname or '?'}{parts.path}"
