"""`tocsin password` and `tocsin token`: the secrets for http.users and http.tokens. They connect to nothing."""

from __future__ import annotations

import sys

import click

from telemetry import TocsinError
from tocsin.cli.options import command, json_option, print_json


@command(
    "tocsin password",
    "pass show tocsin | tocsin password --stdin",
    "tocsin password --json | jq -r .password_hash",
)
@click.option("--stdin", is_flag=True, help="Read the first line of standard input instead of asking.")
@json_option("Print the hash as one JSON object.")
def password(stdin: bool, as_json: bool) -> None:
    """Print the hash of a password, for those who may log in.

    It is for http.users in the configuration, and cannot be turned back into the password (argon2id). The password is
    asked for twice, and shown nowhere.
    """
    from tocsin.http.passwords import hash_password  # noqa: PLC0415  # argon2: not for --help

    entered = _first_line() if stdin else click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    try:
        hashed = hash_password(entered)
    except ValueError as error:
        raise TocsinError(str(error)) from None
    if as_json:
        print_json({"password_hash": hashed})
        return
    click.echo(hashed)
    _explain(f"http: {{users: [{{name: YOURS, password_hash: '{hashed}', role: operator}}]}}")


@command("tocsin token", "tocsin token --json | jq -r .token > /etc/tocsin/grafana.token")
@json_option("Print token and hash as one JSON object.")
def token(as_json: bool) -> None:
    """Make a token, for programs that may ask over HTTP.

    It is printed with its hash. A program shows the token (Authorization: Bearer TOKEN); the hash is for http.tokens in
    the configuration. The token is random, and kept nowhere.
    """
    from tocsin.http.tokens import hash_token, new_token  # noqa: PLC0415  # not for --help

    made = new_token()
    hashed = hash_token(made)
    if as_json:
        print_json({"token": made, "token_hash": hashed})
        return
    click.echo(f"token: {made}")
    click.echo(f"hash:  {hashed}")
    _explain(f"http: {{tokens: [{{name: grafana, token_hash: '{hashed}', role: reader}}]}}")


def _first_line() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def _explain(line: str) -> None:
    """To a person only; what is piped on stays as it is."""
    if sys.stdout.isatty():
        click.echo(f"\nIn tocsin.yaml:\n  {line}", err=True)
