"""Which addresses a URL from the configuration may make us connect to (server-side request forgery, OWASP SSRF).

Here: resolving and checking. The caller must connect to the address it is given, not resolve the name again: the answer
may differ the second time (DNS rebinding).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from telemetry import RetryLater

Resolve = Callable[[str, int], list[str]]
_NAT64 = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = [
    IPv6Network(text)
    for text in (
        "::/96",  # "IPv4-compatible", withdrawn: RFC 4291 2.5.5.1
        "64:ff9b:1::/48",  # local NAT64: RFC 8215
        "fec0::/10",  # site-local, withdrawn: RFC 3879
        "3fff::/20",  # documentation: RFC 9637
        "5f00::/16",  # segment routing: RFC 9602
    )
]


def checked_addresses(
    host: str, port: int, *, allow: Sequence[IPv4Network | IPv6Network], who: str, resolve: Resolve | None = None
) -> list[str]:
    """The addresses of `host`, all of which are public or in one of the networks of `allow`.

    Raises RetryLater saying what to add to the configuration of `who`, since it may be mended or resolve later.
    """
    try:
        found = (resolve or _resolve)(host, port)
    except (OSError, UnicodeError) as error:
        raise RetryLater(f"cannot find the address of {host} ({error}): check the url of {who} and DNS") from error
    addresses = list(dict.fromkeys(found))
    for text in addresses:
        address = _plain(ip_address(text.partition("%")[0]))
        if not _is_allowed(address, allow):
            whole = f"{address}/{address.max_prefixlen}"
            raise RetryLater(
                f"{who} must not post to {host}, since its address {address} is not public: if it is meant to, "
                f"add allow_private: [{whole}] to {who}"
            )
    if not addresses:
        raise RetryLater(f"{host} has no address: check the url of {who} and DNS")
    return addresses


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """True for addresses of hosts in the open internet; for IPv6 that only wraps IPv4, the wrapped address counts."""
    address = _plain(address)
    if isinstance(address, IPv6Address):
        if any(address in network for network in _NOT_PUBLIC):
            return False
        if address.sixtofour is not None or address.teredo is not None:
            return False  # tunnels that nobody needs to post through
    return address.is_global and not address.is_multicast


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address inside an IPv4-mapped or NAT64 address (RFC 4291 2.5.5.2, RFC 6052)."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_allowed(address: IPv4Address | IPv6Address, allow: Sequence[IPv4Network | IPv6Network]) -> bool:
    return is_public(address) or any(address in network for network in allow)


def _resolve(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
