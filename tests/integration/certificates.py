"""Certificates for TLS tests: an authority of our own, a server's for localhost and 127.0.0.1, a client's."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.integration.servers import program


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """PEM files."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


# Python 3.13 checks strictly: the authority needs its key usage, every certificate its key identifiers.
EXTENSIONS = """\
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def make_certificates(directory: Path) -> Certificates:
    (directory / "openssl.cnf").write_text(EXTENSIONS)
    _request(directory, "ca", "tocsin test authority")
    _openssl(directory, "x509 -req -in ca.csr -signkey ca.key -out ca.pem -days 2 -extfile openssl.cnf -extensions ca")
    for name, subject in (("server", "localhost"), ("client", "tocsin")):
        _request(directory, name, subject)
        _openssl(
            directory,
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 "
            f"-extfile openssl.cnf -extensions {name}",
        )
    return Certificates(
        ca=directory / "ca.pem",
        server=directory / "server.pem",
        server_key=directory / "server.key",
        client=directory / "client.pem",
        client_key=directory / "client.key",
    )


def _request(directory: Path, name: str, subject: str) -> None:
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    _openssl(directory, f"req -new {new_key} -config openssl.cnf -keyout {name}.key -out {name}.csr", f"/CN={subject}")


def _openssl(directory: Path, arguments: str, subject: str = "") -> None:
    command: list[str | Path] = [
        program("openssl", "openssl"),
        *arguments.split(),
        *(["-subj", subject] if subject else []),
    ]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
