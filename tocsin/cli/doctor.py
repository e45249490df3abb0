"""`tocsin doctor`: examines a broker, and says which settings to change."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr, ValidationError

from ingest.config import MqttConfig
from telemetry import SystemClock
from tocsin.cli.options import command, json_option, print_json, wants_colour
from tocsin.config import load_config
from tocsin.doctor.examine import examine
from tocsin.doctor.finding import Finding, Interrupted, Severity
from tocsin.doctor.target import Scope
from tocsin.foreground import stopped_by_signals
from tocsin.words import printable

_MARKS: dict[Severity, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "note": ("·", "cyan"),
    "warning": ("!", "yellow"),
    "problem": ("✗", "red"),
}
_WIDTH = 16
_LINE = 110
_PASSWORD = "TOCSIN_DOCTOR_PASSWORD"  # noqa: S105  # the variable's name


@command(
    "tocsin doctor -c tocsin.yaml",
    "tocsin doctor --broker mqtt://localhost:1883",
    "tocsin doctor --broker mqtts://broker.example --username admin --password-file pw --ca-file ca.pem",
    "tocsin doctor -c tocsin.yaml --json | jq '.findings[] | select(.severity == \"problem\")'",
)
@click.option("--broker", metavar="URL", help="The broker, such as mqtt://localhost:1883; wins over the configuration.")
@click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="TOCSIN_CONFIG",
    help="Take the broker, its credentials, the streams and the limits from this file.  [default without --broker: "
    "tocsin.yaml]",
)
@click.option("--username", help=f"Name to log in with; the password from --password-file or {_PASSWORD}.")
@click.option("--password-file", type=click.Path(path_type=Path), help="File that holds the password (its first line).")
@click.option("--ca-file", type=click.Path(path_type=Path), help="Authority that signed the broker's certificate.")
@click.option("--cert-file", type=click.Path(path_type=Path), help="Our own certificate, if the broker asks for one.")
@click.option("--key-file", type=click.Path(path_type=Path), help="Its key, unless it is in the same file.")
@click.option("--insecure", is_flag=True, help="Do not verify the broker's certificate.")
@click.option("--protocol", type=click.Choice(["5", "3.1.1"]), help="MQTT version to prefer.")
@click.option(
    "--messages",
    type=click.IntRange(100, 60_000),
    default=5_000,
    show_default=True,
    help="How many small messages are left waiting at the broker.",
)
@click.option("--prefix", default="tocsin-doctor", show_default=True, help="Topics of the experiments begin with this.")
@json_option("Print the findings as one JSON object.")
def doctor(
    broker: str | None, config_file: Path | None, messages: int, prefix: str, as_json: bool, **access: Any
) -> None:
    """Examine a broker, and say which settings to change.

    It looks at what the broker keeps for a session that is away, how much, how fast it is, and who is let in. Publishes
    to topics of its own, below --prefix, and leaves nothing behind, also on Ctrl-C. It takes about half a minute. A
    running tocsin is not disturbed, but shares the broker with a few thousand small messages. Exit code 1 if there is a
    problem: something through which messages are lost, or nothing works.
    """
    scope = _scope(broker, config_file, access, messages=messages, prefix=prefix)
    findings: list[Finding] = []
    progress = sys.stderr.isatty() and not as_json
    if not as_json:
        click.echo(f"examining {scope.mqtt.address}")
    stop = threading.Event()
    begins = _show if progress else str
    with stopped_by_signals(stop), closing(examine(scope, SystemClock(), beginning=begins, stop=stop)) as found:
        try:
            for finding in found:
                findings.append(finding)
                if progress:
                    _show("")
                if not as_json:
                    _print(finding)
        except Interrupted:
            raise click.Abort from None
    if progress:
        _show("")
    problems = sum(finding.severity == "problem" for finding in findings)
    if as_json:
        plain = [asdict(finding) for finding in findings]
        print_json({"ok": not problems, "broker": scope.mqtt.address, "findings": plain})
    else:
        _conclude(problems, sum(finding.severity == "warning" for finding in findings))
    sys.exit(1 if problems else 0)


def _scope(
    broker: str | None, config_file: Path | None, access: dict[str, Any], *, messages: int, prefix: str
) -> Scope:
    if any(c in prefix for c in "+#\0") or not prefix.strip("/") or prefix.startswith("$"):
        raise click.UsageError(f"--prefix {prefix!r}: write plain topic levels, such as tocsin-doctor")
    given = {key: value for key, value in access.items() if value} | ({"url": broker} if broker else {})
    if "username" in given and "password_file" not in given and os.environ.get(_PASSWORD):
        given["password"] = SecretStr(os.environ[_PASSWORD])
    if broker and config_file is None:
        return Scope(mqtt=_mqtt(given), messages=messages, prefix=prefix)
    config = load_config(config_file or Path("tocsin.yaml")).config
    configured = {name: getattr(config.mqtt, name) for name in config.mqtt.model_fields_set}
    if "password" in given or "password_file" in given or "username" in given:
        configured = {k: v for k, v in configured.items() if k not in ("password", "password_file")}
    return Scope(
        mqtt=_mqtt(configured | given),
        streams=tuple(config.streams),
        max_payload_bytes=int(config.limits.max_payload_bytes),
        messages=messages,
        prefix=prefix,
    )


def _mqtt(fields: dict[str, Any]) -> MqttConfig:
    try:
        # Durations that come from a configuration are numbers of ns by now, which the model would not read.
        plain = {k: v for k, v in fields.items() if not isinstance(v, int) or isinstance(v, bool)}
        checked = MqttConfig.model_validate(plain)
    except ValidationError as error:
        text = "; ".join(str(problem["msg"]).removeprefix("Value error, ") for problem in error.errors())
        raise click.UsageError(text) from None
    return checked.model_copy(update={k: v for k, v in fields.items() if k not in plain})


def _show(check: str) -> None:
    click.echo(f"\r{f'  … {check}' if check else ''}\x1b[K", nl=False, err=True)


def _print(finding: Finding) -> None:
    mark, colour = _MARKS[finding.severity]
    coloured = wants_colour()
    mark = click.style(mark, fg=colour, bold=True) if coloured else mark
    click.echo(f"{mark} {finding.check:<{_WIDTH}} {printable(finding.summary)}")
    margin = " " * (_WIDTH + 3)
    if finding.meaning:
        click.echo(textwrap.fill(printable(finding.meaning), _LINE, initial_indent=margin, subsequent_indent=margin))
    for line in finding.change:
        click.echo(f"{margin}→ {printable(line)}")


def _conclude(problems: int, warnings: int) -> None:
    def counted(n: int, what: str) -> str:
        return f"{n} {what}{'s' if n != 1 else ''}"

    if problems or warnings:
        click.echo(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}: see the arrows for what to change")
    else:
        click.echo("no problems")
