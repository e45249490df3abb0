"""Where tocsin listens for HTTP. Here: the model, and what may be listened on. Not here: the server."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

DEFAULT_PORT = 8100


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8100` or `[::1]:8100`. Raises ValueError, also unless it is this machine only."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT: write 127.0.0.1:{DEFAULT_PORT}, or port 0 for any that is free")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare == "localhost":
        bare = "127.0.0.1"
    try:
        local = ipaddress.ip_address(bare).is_loopback and (":" in bare) == host.startswith("[")
    except ValueError:
        local = False
    if not local:
        raise ValueError(
            f"listens on this machine only, not on {host or 'all addresses'}: there is no authentication yet; use "
            f"127.0.0.1:{port}, and a proxy or an SSH tunnel for others"
        )
    return bare, int(port)


def _checked(text: str) -> str:
    parse_address(text)
    return text


class HttpConfig(BaseModel):
    """Metrics, health and status for programs, over HTTP; on this machine only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="Whether to listen at all.")
    listen: Annotated[str, AfterValidator(_checked)] = Field(
        f"127.0.0.1:{DEFAULT_PORT}",
        description="Address and port, of this machine only; port 0: any that is free (it stands in http.json).",
    )

    @property
    def address(self) -> tuple[str, int]:
        """Host without brackets, and port."""
        return parse_address(self.listen)
