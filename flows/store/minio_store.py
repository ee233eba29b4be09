"""Reach MinIO, `rclone serve s3` or any S3 through the `minio` SDK; only our errors come out.

Alibaba Cloud OSS is such an S3 if the bucket's name stands in front of its host (`address_style`).
The SDK must be given a region: `rclone serve s3` cannot be asked for one. That server also answers errors
as `text/xml`, which the SDK reports as `InvalidResponseError`, so the code is read from its body here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from flows.errors import StoreAway, StoreError, StoreMissing, StoreRefused
from flows.files import write_stream
from flows.settings import StoreSettings
from flows.store.base import ObjectInfo
from flows.store.credentials import StoreCredentials, read_credentials

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
CHUNK_BYTES = 1 << 20
MISSING_CODES = frozenset({"NoSuchKey", "NoSuchObject", "NotFound", "404"})
AWAY_CODES = frozenset(
    {
        "ServiceUnavailable",
        "InternalError",
        "RequestTimeout",
        "XMinioServerNotInitialized",
        "429",
        "TooManyRequests",
        "QpsLimitExceeded",
    }
)
_CODE = re.compile(r"<Code>([^<]+)</Code>")


class MinioStore:
    """Be an object store behind an S3 API.

    Args:
        settings: addresses, region and bucket.
        credentials: the key pair; it never leaves this process, boxes get presigned URLs.
    """

    def __init__(self, settings: StoreSettings, credentials: StoreCredentials) -> None:
        self.endpoint = settings.endpoint
        self._bucket = settings.bucket
        self._where = f"{settings.endpoint}/{settings.bucket}"
        self._client = _client(settings, settings.endpoint, credentials, secure=settings.secure)
        # Signing happens without a request, so this address need not be reachable from here.
        public = settings.public_endpoint or settings.endpoint
        self._signer = _client(settings, public, credentials, secure=is_public_secure(settings))

    def make_bucket(self) -> None:
        """Create the bucket when it is not there."""
        with self._errors(""):
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)

    def put(self, key: str, data: bytes) -> None:
        """Store `data`, replacing what was there."""
        with self._errors(key):
            self._client.put_object(self._bucket, key, io.BytesIO(data), len(data))

    def put_file(self, key: str, path: Path) -> None:
        """Store a file's content, replacing what was there."""
        with self._errors(key):
            self._client.fput_object(self._bucket, key, str(path))

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's content, at most its first `limit` bytes; raises `StoreMissing`."""
        with self._errors(key), self._open(key) as response:
            return bytes(response.read(limit) if limit is not None else response.read())

    def get_file(self, key: str, path: Path) -> None:
        """Write an object's content to `path` by rename; raises `StoreMissing`."""
        with self._errors(key), self._open(key) as response:
            write_stream(path, response.stream(CHUNK_BYTES))

    def stat(self, key: str) -> ObjectInfo | None:
        """Return what lies under a key, None when nothing does."""
        try:
            with self._errors(key):
                found = self._client.stat_object(self._bucket, key)
        except StoreMissing:
            return None
        return ObjectInfo(key, int(found.size), found.last_modified)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in key order."""
        with self._errors(prefix):
            found = [
                ObjectInfo(str(item.object_name), int(item.size), item.last_modified)
                for item in self._client.list_objects(self._bucket, prefix, recursive=True)
                if not item.is_dir
            ]
        yield from sorted(found, key=lambda info: info.key)

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket; raises `StoreMissing`."""
        with self._errors(source):
            self._client.copy_object(self._bucket, target, CopySource(self._bucket, source))

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""
        try:
            with self._errors(key):
                self._client.remove_object(self._bucket, key)
        except StoreMissing:
            return

    def presign_get(self, key: str, expires: timedelta) -> str:
        """Return a URL that reads one object for a while, signed for the public address."""
        with self._errors(key):
            return str(self._signer.presigned_get_object(self._bucket, key, expires))

    def presign_put(self, key: str, expires: timedelta) -> str:
        """Return a URL that writes one object for a while, signed for the public address."""
        with self._errors(key):
            return str(self._signer.presigned_put_object(self._bucket, key, expires))

    @contextmanager
    def _open(self, key: str) -> Iterator[urllib3.BaseHTTPResponse]:
        response = self._client.get_object(self._bucket, key)
        try:
            yield response
        finally:
            response.close()
            response.release_conn()

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _ours(error, f"{self._where}/{key}") from error


def open_store(folder: Path, settings: StoreSettings) -> MinioStore:
    """Open the store the settings name; asks it nothing yet.

    Raises:
        SettingsError: the credentials file is missing or not readable as one.
    """
    return MinioStore(settings, read_credentials(folder / settings.credentials_file))


def is_public_secure(settings: StoreSettings) -> bool:
    """Tell whether the address that others reach the store by speaks TLS."""
    if settings.public_endpoint and settings.public_secure is not None:
        return settings.public_secure
    return settings.secure


def _client(settings: StoreSettings, endpoint: str, credentials: StoreCredentials, *, secure: bool) -> Minio:
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        maxsize=8,
        retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )
    client = Minio(
        endpoint,
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        secure=secure,
        region=settings.region,
        http_client=pool,
    )
    # Left alone, the SDK puts the bucket in front of the host for amazonaws.com and aliyuncs.com alone.
    if settings.address_style == "virtual":
        client.enable_virtual_style_endpoint()
    elif settings.address_style == "path":
        client.disable_virtual_style_endpoint()
    return client


def _ours(error: Exception, where: str) -> StoreError:
    if isinstance(error, S3Error):
        return _by_code(str(error.code), where)
    if isinstance(error, InvalidResponseError):
        # The SDK gives status and body only through its text and its pickled form.
        status, _, body = error.__reduce__()[1]
        found = _CODE.search(body or "")
        return _by_code(found[1] if found else str(status), where)
    if isinstance(error, ServerError):
        return _by_code(str(error.status_code), where)
    return StoreAway(
        expected="an answer", got=f"{type(error).__name__}: {error}", where=where, now="It is tried again."
    )


def _by_code(code: str, where: str) -> StoreError:
    if code in MISSING_CODES:
        return StoreMissing(expected="an object", got="none", where=where)
    # MinIO has a SlowDownRead and a SlowDownWrite beside S3's own.
    if code in AWAY_CODES or code.startswith(("5", "SlowDown")):
        return StoreAway(expected="an answer", got=code, where=where, now="It is tried again.")
    return StoreRefused(
        expected="to be allowed", got=code, where=where, now="Check bucket, credentials and clock."
    )
