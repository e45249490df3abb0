"""What a user may say about sinks and receivers: pydantic models, with the words that go into the schema and sample.

Here: shapes, defaults and rules between fields. Not here: any I/O; files that are named here are read by those who need
what is in them.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from telemetry import RetryLater, parse_duration

Duration = Annotated[int, BeforeValidator(parse_duration)]
GIVE_UP_AFTER = 86_400 * 10**9
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"this is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("write a URL that begins with http:// or https:// and a host, e.g. https://example.org:8086")
    if parts.username is not None:
        raise ValueError("leave the user and password out of the URL: they have fields of their own")
    if not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("a URL has ASCII characters only, and no spaces: write others as %XX, and hosts as xn--…")
    return url


def _secret_http_url(url: SecretStr) -> SecretStr:
    _http_url(url.get_secret_value())
    return url


def _network(value: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f"{error}: write for example 192.168.1.0/24 or 127.0.0.1/32") from None


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
SecretHttpUrl = Annotated[SecretStr, AfterValidator(_secret_http_url)]


class _Model(BaseModel):
    # Inputs are hidden in errors, since a wrong URL or header may be a secret all the same.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class InfluxConfig(_Model):
    """InfluxDB 2.x, 3.x and VictoriaMetrics (`api: v2`), or InfluxDB 1.x (`api: v1`)."""

    type: Literal["influx"] = Field("influx", description="What kind of sink this is.")
    name: Name = Field("influx", description="Names the sink in the log, in the counters and in its cursor file.")
    url: HttpUrl = Field(description="Address of the server, without the path of its write API.")
    api: Literal["v2", "v1"] = Field("v2", description="v2: /api/v2/write; v1: /write of InfluxDB 1.x.")
    org: str = Field("", description="v2: organization. VictoriaMetrics and InfluxDB 3 need none.")
    bucket: str = Field("", description="v2: bucket to write to.")
    database: str = Field("", description="v1: database to write to.")
    retention_policy: str = Field("", description="v1: retention policy; empty: the database's default.")
    token: SecretStr | None = Field(None, description="v2: API token; better take it from the environment or a file.")
    token_file: Path | None = Field(None, description="v2: file with the API token; read again when it is refused.")
    username: str = Field("", description="v1: user, if the server asks for one.")
    password: SecretStr | None = Field(None, description="v1: the user's password.")
    precision: Literal["ns", "us", "ms", "s"] = Field(
        "ns", description="Unit of the times that are written. Readings of a series within one unit overwrite another."
    )
    gzip: bool = Field(default=True, description="Compress what is sent: an eighth of the bytes for little CPU.")
    verify_tls: bool = Field(default=True, description="Check the server's certificate. Leave it on.")
    ca_file: Path | None = Field(None, description="PEM file of the authority that signed the server's certificate.")
    timeout: Duration = Field(10_000_000_000, gt=0, description="How long one write may take, e.g. 10s.")
    batch_rows: int = Field(5_000, ge=1, le=100_000, description="Points in one write; it adapts when it is too big.")

    @model_validator(mode="after")
    def _fits_the_api(self) -> InfluxConfig:
        if self.api == "v2":
            if not self.bucket:
                raise ValueError("api v2 needs a bucket")
            if self.database or self.retention_policy or self.username or self.password:
                raise ValueError("database, retention_policy, username and password are for api: v1")
        else:
            if not self.database:
                raise ValueError("api v1 needs a database")
            if self.bucket or self.org or self.token or self.token_file:
                raise ValueError("bucket, org, token and token_file are for api: v2")
        if self.token and self.token_file:
            raise ValueError("give either token or token_file")
        return self


class WebhookConfig(_Model):
    """Posts alerts in Alertmanager's webhook format (version 4)."""

    type: Literal["webhook"] = Field("webhook", description="What kind of receiver this is.")
    name: Name = Field("webhook", description="Names the receiver in the log, the counters and the outbox.")
    url: SecretHttpUrl = Field(description="Where to post. Kept secret, since many such URLs carry a key.")
    headers: dict[str, SecretStr] = Field({}, description="Further headers, e.g. Authorization.")
    secret: SecretStr | None = Field(None, description="Key of the HMAC-SHA256 signature in X-Tocsin-Signature.")
    secret_file: Path | None = Field(None, description="File with that key.")
    allow_private: list[Network] = Field(
        [],
        description="Networks that may be posted to although they are not public, e.g. [192.168.1.0/24, 127.0.0.1/32].",
    )
    send_resolved: bool = Field(default=True, description="Tell also when an alert is resolved.")
    external_url: str = Field("", description="Address of this tocsin as the receiver's readers can open it.")
    verify_tls: bool = Field(default=True, description="Check the server's certificate. Leave it on.")
    ca_file: Path | None = Field(None, description="PEM file of the authority that signed the server's certificate.")
    timeout: Duration = Field(10_000_000_000, gt=0, description="How long one post may take as a whole, e.g. 10s.")
    give_up_after: Duration = Field(
        GIVE_UP_AFTER,
        ge=0,
        description="How long to try an event again that fails while the receiver takes others; 0: for ever.",
    )

    @model_validator(mode="after")
    def _one_secret_and_plain_headers(self) -> WebhookConfig:
        if self.secret and self.secret_file:
            raise ValueError("give either secret or secret_file")
        for name, value in self.headers.items():
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} is not the name of a header")
            if not value.get_secret_value().isprintable() or not value.get_secret_value().isascii():
                raise ValueError(f"header {name} may hold printable ASCII characters only")
        return self


class LogConfig(_Model):
    """Writes one line for each alert that begins or ends."""

    type: Literal["log"] = Field("log", description="What kind of receiver this is.")
    name: Name = Field("log", description="Names the receiver in the log, the counters and the outbox.")
    to: Literal["log", "stdout"] = Field("log", description="Program log (standard error), or standard output.")
    send_resolved: bool = Field(default=True, description="Tell also when an alert is resolved.")


ReceiverConfig = Annotated[WebhookConfig | LogConfig, Field(discriminator="type")]
"""A receiver, told apart by its `type`."""


def secret_text(secret: SecretStr | None, file: Path | None, *, what: str) -> str:
    """The secret itself, from the configuration or from its file; empty if there is neither.

    Raises RetryLater if the file cannot be read: it may be mended while we run.
    """
    if file is None:
        return secret.get_secret_value() if secret else ""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RetryLater(f"cannot read {what} from {file} ({error}): mend the file or its permissions") from error
