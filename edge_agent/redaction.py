"""Take secrets out of text before anyone sees it: credentials in URLs, signatures of presigned URLs; pure.

>>> redact("rtsp://admin:pw@camera/1")
'rtsp://***@camera/1'
>>> redact("PUT http://store/b/k?X-Amz-Signature=ab&partNumber=1 failed")
'PUT http://store/b/k?*** failed'
"""

from __future__ import annotations

import re

# A password may itself hold an "@", so the last one before the path counts.
_CREDENTIALS = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#'\"]+@")
# A query is hidden whole when any part of it signs or authorises; names differ between stores.
_SIGNED_QUERY = re.compile(
    r"\?[^\s'\"<>]*(?:signature|credential|x-amz-|x-goog-|token|password|secret|sig=|awsaccesskeyid)[^\s'\"<>]*",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"(?P<name>\b[\w-]*(?:password|passwd|secret|token|user-pw)[\"']?\s?[=:]\s?)(?P<value>[\"'][^\"']*[\"']|[^\s,;\"'}]+)",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"password|passwd|secret|token$", re.IGNORECASE)
HIDDEN = "***"


def is_secret(name: str) -> bool:
    """Tell whether a field or key of this name holds a secret; a path to one is none."""
    return bool(_SECRET_NAME.search(name)) and not name.endswith(("_file", "_path"))


def redact(text: str) -> str:
    """Return the text without secrets; everything else stays as it was."""
    # Most lines hold none of these, and three searches per line would be paid for nothing.
    if "://" in text:
        text = _CREDENTIALS.sub(rf"\g<scheme>{HIDDEN}@", text)
    if "?" in text:
        text = _SIGNED_QUERY.sub(f"?{HIDDEN}", text)
    return _ASSIGNED.sub(rf"\g<name>{HIDDEN}", text)
