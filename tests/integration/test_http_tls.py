"""HTTP with users and TLS, on a real tocsin: its own commands find it, others must trust its certificate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3

from tests.integration.brokers import Mosquitto
from tests.integration.certificates import make_certificates
from tests.integration.tocsin_process import Tocsin, tocsin
from tocsin.http.instance import read_instance, write_instance
from tocsin.http.passwords import Argon2


def test_a_tocsin_with_users_and_tls_is_asked_by_its_own_commands_and_by_who_logs_in(
    mosquitto: Mosquitto, tocsin_factory: Callable[..., Tocsin], tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path)
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}})
    users = [{"name": "ada", "password_hash": Argon2().hash("words of ada"), "role": "operator"}]
    files = {"cert_file": str(certificates.server), "key_file": str(certificates.server_key)}
    program.change(http={"listen": "0.0.0.0:0", "users": users, **files})
    program.start()
    instance = read_instance(program.data.http)
    assert instance is not None
    assert instance.url.startswith("https://127.0.0.1:")
    assert json.loads(tocsin("status", "--json", "-c", program.config).stdout)["running"]
    assert "clear text" not in program.said()

    trusting = urllib3.PoolManager(retries=False, timeout=20, ca_certs=certificates.ca)
    assert trusting.request("GET", instance.url + "/metrics").status == 401
    answer = trusting.request(
        "POST",
        instance.url + "/login",
        fields={"name": "ada", "password": "words of ada", "next": "/metrics"},
        headers={"Origin": instance.url},
        encode_multipart=False,
    )
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-tocsin_")
    assert "; Secure" in cookie
    given = {"Cookie": cookie.partition(";")[0]}
    assert trusting.request("GET", instance.url + "/metrics", headers=given).status == 200

    stranger = urllib3.PoolManager(retries=False, timeout=20)
    with pytest.raises(urllib3.exceptions.SSLError):
        stranger.request("GET", instance.url + "/healthz")

    write_instance(program.data.http, replace(instance, fingerprint="0" * 64))
    done = tocsin("status", "-c", program.config)
    assert (done.returncode, "does not answer" in done.stderr) == (1, True)  # it gets no token
    write_instance(program.data.http, instance)
    program.stop()


def test_without_users_nobody_else_is_listened_to(tocsin_factory: Callable[..., Tocsin]) -> None:
    program = tocsin_factory({})
    program.change(http={"listen": "0.0.0.0:8100"})
    done = tocsin("run", "-c", program.config)
    assert done.returncode == 1
    assert "others than this machine must say who they are: write http.users" in done.stderr
    assert f"{program.config}:" in done.stderr
