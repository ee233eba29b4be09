"""Read how long the box's certificate lives, and say in plain words why TLS failed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_agent.errors import ConfigError

RENEW_DAYS = 30.0
"""A certificate that ends sooner is told as a problem."""
DAY_S = 86400.0
# OpenSSL's X509_V_ERR_*: what verification found wrong with the broker's certificate.
NOT_YET_VALID, EXPIRED, HOSTNAME, ADDRESS = 9, 10, 62, 64
UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)


@dataclass(frozen=True, slots=True)
class CertificateLife:
    """Hold when a certificate begins and ends, and the name it was made out to."""

    not_before: datetime
    not_after: datetime
    common_name: str

    def days_left(self, now: datetime) -> float:
        """Return the days until it ends; negative when it has."""
        return (self.not_after - now).total_seconds() / DAY_S

    def problem(self, now: datetime) -> str:
        """Say what is wrong with it now, "" for nothing."""
        if now < self.not_before:
            return (
                f"the box's certificate begins at {self.not_before:%Y-%m-%d %H:%M} UTC and the box's clock"
                f" says {now:%Y-%m-%d %H:%M}: set the clock (is NTP reachable?)"
            )
        left = self.days_left(now)
        if left < 0:
            return (
                f"the box's certificate ended at {self.not_after:%Y-%m-%d %H:%M} UTC"
                f" (the box's clock says {now:%Y-%m-%d %H:%M}): install a new one"
            )
        return f"the box's certificate ends in {left:.0f} days: renew it" if left < RENEW_DAYS else ""


def read_certificate(path: Path) -> CertificateLife:
    """Read a PEM certificate.

    Raises:
        ConfigError: it cannot be read.
    """
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            expected="a certificate in PEM",
            got=str(error),
            where=str(path),
            now="Correct broker.cert_file.",
        ) from error
    names = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return CertificateLife(
        found.not_valid_before_utc, found.not_valid_after_utc, str(names[0].value) if names else ""
    )


def tls_words(error: BaseException, now: datetime | None = None) -> str:
    """Say why a connection failed; "" when it was not for TLS."""
    if not isinstance(error, ssl.SSLError):
        return ""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed: {error}; look at the broker's log and at broker.cert_file"
    clock = f"{now or datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    words = _VERIFICATION.get(error.verify_code, "the broker's certificate is not trusted: {found}")
    return words.format(clock=clock, found=error.verify_message)


_VERIFICATION = {
    NOT_YET_VALID: (
        "the broker's certificate is not valid yet, and the box's clock says {clock}: set the clock (is NTP"
        " reachable?)"
    ),
    EXPIRED: (
        "the broker's certificate has ended, or the box's clock, which says {clock}, is ahead: renew the"
        " broker's certificate or set the clock"
    ),
    **dict.fromkeys(
        (HOSTNAME, ADDRESS), "the broker's certificate is for another name: {found}; correct broker.host"
    ),
    **dict.fromkeys(
        UNKNOWN_AUTHORITY, "the broker's certificate is signed by nobody broker.ca_file names: {found}"
    ),
}
