"""The server's own certificate. Not here: TLS itself (uvicorn, ssl)."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from telemetry import ConfigError, Problem
from tocsin.http.config import HttpConfig


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and a key that belong together."""

    cert_file: Path
    key_file: Path | None
    fingerprint: str
    """SHA-256 in hex, by which the commands of this machine know it."""

    @classmethod
    def load(cls, config: HttpConfig) -> Certificate | None:
        """None without TLS. Raises ConfigError."""
        file, key = config.cert_file, config.key_file
        if file is None:
            return None
        try:
            # an empty password makes an encrypted key an error instead of a question on the terminal
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, key, password="")
            first = file.read_text().partition("-----BEGIN CERTIFICATE-----")
            pem = "".join(first[1:]).partition("-----END CERTIFICATE-----")
            fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert("".join(pem[:2]))).hexdigest()
        except ssl.SSLError as error:
            reason = f"no valid PEM file, or certificate and key do not belong together: {error.reason or error}"
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            return cls(file, key, fingerprint)
        name = "cert_file" if key is None else "cert_file and key_file"
        raise ConfigError([Problem(f"http.{name}: cannot use {file}: {reason}", loc=("http", "cert_file"))])
