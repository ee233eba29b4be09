"""Check certificates, keys and passwords: readable, fitting each other, in time, for nobody else's eyes."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from edge_agent.care.certificates import is_signed_by, key_fits
from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import Finding
from edge_agent.errors import ConfigError
from edge_agent.link.certificate import RENEW_DAYS, read_certificate
from edge_agent.settings.paths import files_in
from fleet_contracts.base import utc_now

NAME = "certificates"
RENEW = "Make a new one (docs/edge.md, section 5) and restart the agent."


class CertificateCheck:
    """Read every certificate, key and password the configuration names."""

    name = NAME

    def __init__(self, patient: Patient) -> None:
        self._config = patient.config

    def check(self) -> Iterator[Finding]:
        """Give what is wrong, or that nothing is."""
        found = [*self._files(), *self._own(), *self._authority()]
        if not found:
            tls = self._config.broker.tls
            words = "nothing to check" if tls else "the broker is reached without TLS"
            yield Finding("ok", NAME, words)
        yield from found

    def _files(self) -> Iterator[Finding]:
        """Look at each file's readability, and at who else may read secrets."""
        for key, path in files_in(self._config):
            try:
                mode = path.stat().st_mode
                path.open("rb").close()
            except OSError as error:
                now = f"Correct {key}, or let the agent's user read the file."
                yield Finding("fail", NAME, f"{key} = {path}: {error.strerror}", now)
                continue
            if is_secret_file(key) and mode & (stat.S_IRGRP | stat.S_IROTH):
                now = f"chmod 600 {path}, and let it belong to the agent's user."
                yield Finding("warn", NAME, f"{key} = {path} can be read by others", now)

    def _own(self) -> Iterator[Finding]:
        broker = self._config.broker
        if broker.cert_file is None or broker.key_file is None:
            return
        try:
            yield from judge_own(broker.cert_file, broker.key_file, self._config.device_id)
            if broker.ca_file is not None and not is_signed_by(broker.cert_file, broker.ca_file):
                yield Finding(
                    "warn",
                    NAME,
                    f"{broker.cert_file} was not signed by an authority in {broker.ca_file}",
                    "Fine where the broker trusts another authority for boxes; else sign it by this one.",
                )
        except (OSError, ValueError, TypeError, ConfigError) as error:
            yield Finding("fail", NAME, f"broker.cert_file, broker.key_file: {error}", RENEW)

    def _authority(self) -> Iterator[Finding]:
        path = self._config.broker.ca_file
        if path is None:
            return
        try:
            yield judge_days("broker.ca_file", path)
        except ConfigError as error:
            now = "Copy the authority's certificate (PEM) there."
            yield Finding("fail", NAME, f"broker.ca_file: {error}", now)


def judge_own(cert_file: Path, key_file: Path, device_id: str) -> Iterator[Finding]:
    """Judge the box's own certificate.

    Raises:
        ConfigError, OSError, ValueError, TypeError: a file cannot be read or is not what it should be.
    """
    yield judge_days("broker.cert_file", cert_file)
    if not key_fits(cert_file, key_file):
        now = "Copy certificate and key of the same pair; each key fits one certificate."
        yield Finding("fail", NAME, f"{key_file} is not the key of {cert_file}", now)
    name = read_certificate(cert_file).common_name
    if name != device_id:
        yield Finding(
            "fail",
            NAME,
            f'the certificate is for "{name}", device_id is "{device_id}"',
            "The broker takes the name for the device: make a certificate with CN = device_id.",
        )


def judge_days(key: str, path: Path) -> Finding:
    """Judge how long a certificate still lives.

    Raises:
        ConfigError: it cannot be read.
    """
    life, now = read_certificate(path), utc_now()
    days = life.days_left(now)
    if now < life.not_before:
        return Finding(
            "fail",
            NAME,
            f"{key} = {path} begins at {life.not_before:%Y-%m-%d %H:%M} UTC, later than the box's clock",
            "Set the clock; if it is right, make a new certificate.",
        )
    if days < 0:
        return Finding("fail", NAME, f"{key} = {path} ran out {-days:.0f} days ago", RENEW)
    words = f"{key} = {path}: {days:.0f} days left"
    return Finding("warn", NAME, words, RENEW) if days < RENEW_DAYS else Finding("ok", NAME, words)


def is_secret_file(key: str) -> bool:
    """Tell whether a key names a file that only the agent should read."""
    return key.endswith(("password_file", "key_file", "credentials_file"))
