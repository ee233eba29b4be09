"""Tell whether machines elsewhere can reach the store, before one is rented that would wait for it in vain.

Pure, but for asking what addresses a name has. A public address that nobody answers at is not found out here:
the machine's own check does that within minutes, and its guard ends it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from flows.settings import StoreSettings
from flows.store.minio_store import is_public_secure

Resolve = Callable[[str], tuple[str, ...]]
_LOCAL_NAMES = (".local", ".localhost", ".localdomain", ".internal", ".lan", ".home.arpa", ".home", ".corp")
"""Ends of names that mean something within one network alone."""


def addresses_of(name: str) -> tuple[str, ...]:
    """Return the addresses a name has, none where it has none or nobody can be asked."""
    try:
        found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return ()  # the second is what a name gets that cannot be one, with an empty part or one too long
    return tuple(dict.fromkeys(str(one[4][0]) for one in found))


def why_unreachable(settings: StoreSettings, resolve: Resolve = addresses_of) -> str:
    """Return why a machine that is rented elsewhere could not use the store, "" where nothing speaks against.

    >>> why_unreachable(StoreSettings(endpoint="127.0.0.1:9000"))
    'store.endpoint 127.0.0.1 is the machine itself, wherever that is'
    """
    key = "public_endpoint" if settings.public_endpoint else "endpoint"
    host = host_of(settings.public_endpoint or settings.endpoint)
    why = why_local(host, resolve, private=settings.private_network)
    if why:
        return f"store.{key} {why}"
    if not is_public_secure(settings) and not settings.private_network:
        secure = "public_secure" if settings.public_endpoint else "secure"
        return f"store.{key} {host} speaks http: images, weights and URLs would be readable; set {secure}"
    return ""


def host_of(endpoint: str) -> str:
    """Return the host of `host:port`; of an IPv6 address without its brackets."""
    return urlsplit(f"//{endpoint}").hostname or ""


def why_local(host: str, resolve: Resolve, *, private: bool) -> str:
    """Return why a host means nothing, or something else, to a machine elsewhere; "" where it is public.

    Args:
        host: a name or an address.
        resolve: asks for a name's addresses.
        private: whether machines elsewhere are in a network of ours, so that only loopback will not do.
    """
    named = _address(host)
    if named is not None:
        return _why_address(host, (named,), private=private)
    name = host.rstrip(".").lower()
    if name in ("", "localhost") or name.endswith(".localhost"):
        return f"{host or '(empty)'} is the machine itself, wherever that is"
    if not private and ("." not in name or name.endswith(_LOCAL_NAMES)):
        return f"{host} is a name of this network alone"
    found = [_address(one.partition("%")[0]) for one in resolve(name)]
    known = [one for one in found if one is not None]
    if not known:
        return f"{host} has no address that could be asked for from here"
    return _why_address(host, known, private=private)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _why_address(host: str, found: Iterable[_Address], *, private: bool) -> str:
    """Return what is wrong with the addresses of a host; one good one is enough."""
    why = ""
    for one in found:
        shown = host if str(one) == host else f"{host} ({one})"
        if one.is_loopback or one.is_unspecified:
            why = f"{shown} is the machine itself, wherever that is"
        elif one.is_link_local or one.is_multicast:
            why = f"{shown} is an address of one cable alone"
        elif not one.is_global and not private:
            why = f"{shown} is a private address; machines elsewhere cannot reach it"
        else:
            return ""
    return why
