"""Laws of the http section: what may be listened on, whose secrets are taken, and what is said of mistakes."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetry import ConfigError
from tests.tocsin.login_rig import HASH
from tocsin.cli import main
from tocsin.config import load_config
from tocsin.http.config import HttpConfig, Role
from tocsin.http.credentials import Credentials
from tocsin.http.passwords import Argon2, Passwords, check_hash
from tocsin.http.roles import LOCAL, Principal
from tocsin.http.tokens import LONGEST, Tokens, hash_token, new_token

VALID = "streams:\n  - {name: t, topic: 'a/{device}'}\n"
USER = f"{{name: ada, password_hash: '{HASH}', role: operator}}"
TOKEN = "tocsin_" + "x" * 40


def problems(directory: Path, http: str) -> list[str]:
    file = directory / "tocsin.yaml"
    file.write_text(VALID + http)
    with pytest.raises(ConfigError) as caught:
        load_config(file, env={})
    return [str(problem).removeprefix(f"{file}:") for problem in caught.value.problems]


@pytest.mark.parametrize("listen", ["0.0.0.0:8100", "'[::]:8100'", "192.168.1.2:8100", "'[2001:db8::1]:80'"])
def test_it_listens_for_others_only_if_they_must_say_who_they_are(tmp_path: Path, listen: str) -> None:
    (problem,) = problems(tmp_path, f"http:\n  listen: {listen}\n")
    assert problem.startswith("4:11: others than this machine must say who they are: write http.users: [{name: ada, ")
    for words in ("`tocsin password`", "http.tokens", "`tocsin token`", "127.0.0.1"):
        assert words in problem
    for who in (f"users: [{USER}]", f"tokens: [{{name: x, token_hash: '{hash_token(TOKEN)}'}}]", "enabled: false"):
        (tmp_path / "tocsin.yaml").write_text(VALID + f"http:\n  {who}\n  listen: {listen}\n")
        assert load_config(tmp_path / "tocsin.yaml", env={}).config.http.asks_for_login == ("enabled" not in who)


@pytest.mark.parametrize(
    ("http", "problem"),
    [
        ("users: [{name: ada}]", "4:11: the user 'ada' needs either password_hash or password_file: `tocsin password`"),
        ("users: [{name: ada, password_hash: hunter2222}]", "4:38: this is no argon2id hash ($argon2id$…): print one"),
        ("users: [{name: ada, password: x}]", "4:23: unknown key 'password': did you mean 'password_hash'?"),
        (f"users: [{USER}, {USER}]", "4:10: the name 'ada' is used twice: give each user its own"),
        ("users: [{name: ada, password_file: p, role: admin}]", "4:47: expected 'reader' or 'operator', not 'admin'"),
        ("tokens: [{name: x}]", "4:12: the token 'x' needs either token_hash or token_file: `tocsin token` makes a"),
        ("tokens: [{name: x, token_hash: y}]", "4:34: this is no hash of a token (sha256:…): `tocsin token` makes"),
        ("hosts: ['https://x.example']", "4:11: 'https://x.example' is no host name: write for example tocsin."),
        ("hosts: ['x.example:80']", "4:11: 'x.example:80' is no host name: write for example tocsin.example.org, wi"),
        ("key_file: x.pem", "4:3: key_file needs cert_file"),
    ],
)
def test_a_mistake_is_shown_at_its_place_without_the_secret(tmp_path: Path, http: str, problem: str) -> None:
    found = problems(tmp_path, f"http:\n  {http}\n")
    assert found[0].startswith(problem), found
    assert len(found) == 1 or "password: x" in http
    assert "hunter2222" not in "".join(found)


def test_hashes_that_would_take_all_the_memory_or_are_none_are_refused() -> None:
    check_hash(HASH)
    check_hash(Argon2().hash("some words"))
    for bad in (
        "",
        "$argon2id$",
        HASH.replace("argon2id", "argon2i"),
        HASH.replace("argon2id", "argon2d"),
        HASH.replace("m=8", "m=9999999"),
        HASH.replace("t=1", "t=1000"),
        HASH[:-40],
        "$2b$12$" + "x" * 53,
    ):
        with pytest.raises(ValueError, match="tocsin password"):
            check_hash(bad)


def test_secrets_come_from_the_configuration_or_from_files_and_are_shown_nowhere(tmp_path: Path) -> None:
    hashed = Argon2().hash("words of ada")
    files = {"plain": "words of bob\n", "hashed": f"{hashed}\n", "token": f"{TOKEN}\n", "hash": hash_token(TOKEN + "y")}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    config = HttpConfig.model_validate(
        {
            "users": [
                {"name": "ada", "password_hash": hashed, "role": "operator"},
                {"name": "bob", "password_file": tmp_path / "plain"},
                {"name": "eve", "password_file": tmp_path / "hashed"},
            ],
            "tokens": [
                {"name": "one", "token_file": tmp_path / "token", "role": "operator"},
                {"name": "two", "token_file": tmp_path / "hash"},
            ],
        }
    )
    credentials = Credentials.load(config, "tocsin_" + "l" * 32)
    assert [user.principal for user in credentials.users] == [
        Principal("ada", Role.OPERATOR),
        Principal("bob", Role.READER),
        Principal("eve", Role.READER),
    ]
    passwords = Passwords({user.principal.name: user.password_hash for user in credentials.users})
    for user, words in (("ada", "words of ada"), ("bob", "words of bob"), ("eve", "words of ada")):
        assert asyncio.run(passwords.are_right(user, words))
    assert not asyncio.run(passwords.are_right("bob", "words of ada"))
    tokens = Tokens(credentials.tokens)
    assert tokens.owner(TOKEN) == Principal("one", Role.OPERATOR)
    assert tokens.owner(TOKEN + "y") == Principal("two", Role.READER)
    assert tokens.owner("tocsin_" + "l" * 32) == LOCAL
    assert tokens.owner("") is None
    shown = repr(config) + repr(credentials)
    assert not any(secret in shown for secret in (hashed, "words of", "sha256:", TOKEN))


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("password_file", None, "No such file or directory"),
        ("password_file", b"", "too short: use at least 8 characters"),
        ("password_file", b"short\nbut more", "too short"),
        ("password_file", b"\xff\xfe", "it is no text"),
        ("password_file", b"$argon2id$nonsense", "no argon2id hash"),
        ("token_file", b"guessable", "`tocsin token` makes one"),
        ("token_file", b"with blanks " * 5, "`tocsin token` makes one"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, key: str, text: bytes | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "secret").write_bytes(text)
    kind = "users" if key == "password_file" else "tokens"
    config = HttpConfig.model_validate({kind: [{"name": "ada", key: tmp_path / "secret"}] * 1})
    with pytest.raises(ConfigError, match=re.escape(reason)) as caught:
        Credentials.load(config)
    assert f"http.{kind}: cannot use the {key} {tmp_path / 'secret'}" in str(caught.value)
    assert text is None or not text or text.decode("latin-1") not in str(caught.value)


def test_the_same_words_are_the_same_password_on_every_keyboard() -> None:
    hashed = Argon2().hash("Zu\u0308rich caf\u00e9")
    assert Argon2().verify(hashed, "Z\u00fcrich cafe\u0301")
    assert not Argon2().verify(hashed, "Zurich cafe")
    assert not Argon2().verify("nonsense", "Zurich cafe")


def test_the_hash_that_is_printed_fits_the_password_and_the_configuration(tmp_path: Path) -> None:
    asked = CliRunner().invoke(main, ["password"], input="three small words\nthree small words\n")
    assert asked.exit_code == 0, asked.output
    piped = CliRunner().invoke(main, ["password", "--stdin", "--json"], input="three small words\nmore\n")
    hashes = [asked.stdout.strip(), json.loads(piped.stdout)["password_hash"]]
    assert hashes[0] != hashes[1]
    for hashed in hashes:
        assert Argon2().verify(hashed, "three small words")
        (tmp_path / "tocsin.yaml").write_text(f"{VALID}http: {{users: [{{name: ada, password_hash: '{hashed}'}}]}}\n")
        assert load_config(tmp_path / "tocsin.yaml", env={}).config.http.asks_for_login
    assert "three small words" not in asked.output


@pytest.mark.parametrize("entered", ["short\n", "", "x" * 2_000 + "\n"])
def test_a_password_that_is_too_short_or_too_long_is_refused(entered: str) -> None:
    done = CliRunner().invoke(main, ["password", "--stdin"], input=entered)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "characters" in done.stderr


def test_two_passwords_that_differ_are_asked_for_again() -> None:
    done = CliRunner().invoke(
        main, ["password"], input="three small words\nthree smell words\nwords words\nwords words\n"
    )
    assert Argon2().verify(done.stdout.strip(), "words words")


def test_a_token_that_is_made_is_good_with_its_hash() -> None:
    plain = CliRunner().invoke(main, ["token"]).stdout.split()
    assert plain[::2] == ["token:", "hash:"]
    assert hash_token(plain[1]) == plain[3]
    made = json.loads(CliRunner().invoke(main, ["token", "--json"]).stdout)
    assert hash_token(made["token"]) == made["token_hash"]
    assert len({plain[1], made["token"], new_token()}) == 3
    with pytest.raises(ValueError, match="tocsin token"):
        hash_token("x" * (LONGEST + 1))
