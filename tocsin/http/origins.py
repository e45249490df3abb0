"""Which names this server has, and whether a browser's request comes from its own pages.

Against DNS rebinding (a page whose name has been made to point here), cross-site request forgery and cross-site
WebSockets. Programs that are no browsers are not affected: they send no Origin.
"""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import Scope

from tocsin.http.config import HttpConfig, is_loopback

_LOCAL = frozenset(("127.0.0.1", "localhost", "[::1]"))
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
"""They change nothing (RFC 9110, section 9.2.1)."""


class Hosts:
    """The names that requests may give in Host."""

    def __init__(self, config: HttpConfig) -> None:
        address = config.address[0]
        self._any_address = ipaddress.ip_address(address).is_unspecified
        self._is_local = is_loopback(address)
        self.configured = frozenset(_bracketed(name) for name in config.hosts)
        self._names = self.configured | {_bracketed(address)} | (_LOCAL if self._is_local else frozenset())
        if self._any_address:
            self._names |= _LOCAL

    def know(self, host: str) -> bool:
        """Whether a Host header, with or without port, names this server.

        If it listens on all addresses, any address does: only a name can be made to point elsewhere.
        """
        name = _name_of(host)
        return name in self._names or (self._any_address and _is_address(name))

    @property
    def advice(self) -> str:
        """What to tell one who used another name."""
        if self._is_local and not self.configured:
            return (
                "only http://127.0.0.1 and http://localhost are answered; a proxy must send Host: localhost, or its "
                "name must stand in http.hosts"
            )
        return "this server does not have that name: list it in http.hosts, or use one that stands there"


def comes_from_elsewhere(scope: Scope, hosts: Hosts) -> str:
    """Why a request must not be answered, since a page of another site has made it; empty if it may be."""
    headers = Headers(scope=scope)
    is_websocket = scope["type"] == "websocket"
    origins = headers.getlist("origin")
    if is_websocket or scope["method"] not in SAFE_METHODS:
        if any(not is_same_origin(origin, scope, hosts) for origin in origins):
            return f"a page of another site ({origins[0]!r:.100}) may not do this; if it is a proxy's name: http.hosts"
        if origins:
            return ""
    site = headers.get("sec-fetch-site", "none")
    is_navigation = headers.get("sec-fetch-mode") == "navigate" and not is_websocket
    if site in ("cross-site", "same-site") and not (is_navigation and scope["method"] in SAFE_METHODS):
        return "a page of another site may not ask for this"
    return ""


def follows_a_link(scope: Scope) -> bool:
    """Whether a page of another site led here, so that the browser has held our cookie back (SameSite=Strict).

    It must be asked again, from our own page, before there is anything to enter.
    """
    headers = Headers(scope=scope)
    site = headers.get("sec-fetch-site")  # not sent to http:// on other machines
    if site is not None:
        return site in ("cross-site", "same-site")
    referer = headers.get("referer", "")
    return bool(referer) and referer.partition("://")[2].partition("/")[0] != headers.get("host")


def is_same_origin(origin: str, scope: Scope, hosts: Hosts) -> bool:
    """Whether an Origin is that of our own pages: the request's host, or a configured name at its usual port."""
    scheme, separator, host = origin.lower().partition("://")
    if not separator or scheme not in _DEFAULT_PORTS or (is_secure(scope) and scheme != "https"):
        return False
    port = _DEFAULT_PORTS[scheme]
    ours = Headers(scope=scope).get("host", "").lower().removesuffix(port)
    return host.removesuffix(port) == ours or host.removesuffix(port) in hosts.configured


def is_secure(scope: Scope) -> bool:
    """Whether the browser speaks https: to us, or to a proxy on this machine that says so."""
    if scope.get("scheme") in ("https", "wss"):
        return True
    return is_from_this_machine(scope) and Headers(scope=scope).get("x-forwarded-proto", "").lower() == "https"


def client_of(scope: Scope) -> str:
    """The address that a request comes from. Of a proxy on this machine, the last one that it has added is believed."""
    address: str = (scope.get("client") or ("",))[0]
    forwarded = Headers(scope=scope).getlist("x-forwarded-for")
    if forwarded and is_from_this_machine(scope):
        return forwarded[-1].rpartition(",")[2].strip()
    return address


def is_from_this_machine(scope: Scope) -> bool:
    """Whether the connection was made here."""
    try:
        address = ipaddress.ip_address((scope.get("client") or ("",))[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal():
        name = host
    return name.lower()


def _is_address(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return (address.version == 6) == name.startswith("[")


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
