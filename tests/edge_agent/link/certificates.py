"""Make a small certificate authority for tests."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet_contracts.base import utc_now

Key = ec.EllipticCurvePrivateKey


class Authority:
    """Sign certificates; `ca.pem` and `<file>.pem`, `<file>-key.pem` lie in its folder."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._name, self._key = _name(name), ec.generate_private_key(ec.SECP256R1())
        now = utc_now()
        certificate = _certificate(self._name, self._name, self._key, now - timedelta(days=400))
        certificate = certificate.not_valid_after(now + timedelta(days=400)).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def issue(
        self,
        common_name: str,
        file: str = "",
        *,
        begins: datetime | None = None,
        ends: datetime | None = None,
        hosts: tuple[str, ...] = (),
    ) -> tuple[Path, Path]:
        """Sign a certificate and return its file and its key's; valid from yesterday for 100 days by default."""
        now, key = utc_now(), ec.generate_private_key(ec.SECP256R1())
        made = _certificate(_name(common_name), self._name, key, begins or now - timedelta(days=1))
        made = made.not_valid_after(ends or now + timedelta(days=100))
        if hosts:
            names = [x509.IPAddress(ipaddress.ip_address(one)) if one[0].isdigit() else x509.DNSName(one)
                     for one in hosts]  # fmt: skip
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        file = file or common_name
        certificate_file, key_file = self.folder / f"{file}.pem", self.folder / f"{file}-key.pem"
        certificate_file.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate_file, key_file


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: Key, begins: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
    )
