"""Compare certificates with keys and authorities; `link.certificate` reads how long one lives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def key_fits(cert_file: Path, key_file: Path) -> bool:
    """Tell whether a private key belongs to a certificate.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file holds no certificate or no key.
        TypeError: the key is locked with a passphrase.
    """
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form) == _load(cert_file).public_key().public_bytes(*form)


def is_signed_by(cert_file: Path, ca_file: Path) -> bool:
    """Tell whether one of the authorities in a PEM file signed the certificate directly.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file holds no certificate.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    certificate = _load(cert_file)
    for authority in x509.load_pem_x509_certificates(ca_file.read_bytes()):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def _load(path: Path) -> Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes())
