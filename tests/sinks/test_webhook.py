"""Laws of the webhook: Alertmanager's payload, to checked addresses only, and every answer means one thing."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sinks.addresses import checked_addresses, is_public
from sinks.config import WebhookConfig
from sinks.timestamps import rfc3339
from sinks.webhook import WebhookReceiver, payload, signature
from telemetry import AlertEvent, AlertState, ManualClock, Rejected, RetryLater
from tests.sinks.far_side import Answer, FarSide, far_side

T0 = 1_700_000_000_000_000_000


def event(device: str = "d1", *, ends_at: int = 0, **more) -> AlertEvent:
    fields = {
        "rule": "g/Hot",
        "labels": (("alertname", "Hot"), ("device", device), ("severity", "page")),
        "state": AlertState.RESOLVED if ends_at else AlertState.FIRING,
        "value": 81.5,
        "starts_at": T0 + 123_456_789,
        "ends_at": ends_at,
        "detected_at": T0 + 2_000_000_000,
        "annotations": (("runbook", "http://r"), ("summary", f"{device} is hot")),
    }
    return AlertEvent(**{**fields, **more})


@pytest.fixture
def server() -> Iterator[FarSide]:
    with far_side() as it:
        it.answer = lambda request: Answer(200, body=b"ok")
        yield it


def receiver(server: FarSide | None = None, *, resolve=None, **more) -> WebhookReceiver:
    port = server.port if server else 1
    fields = {"url": f"http://127.0.0.1:{port}/hook?key=k", "allow_private": ["127.0.0.0/8", "::1"], **more}
    return WebhookReceiver(WebhookConfig(name="ops", **fields), clock=ManualClock(T0), resolve=resolve)


def test_the_payload_is_alertmanagers_version_4():
    resolved = event("d2", ends_at=T0 + 60 * 10**9)
    body = payload([event(), resolved], receiver="ops", external_url="http://tocsin")
    extras = [{k: a.pop(k) for k in list(a) if k.startswith("x_")} for a in body["alerts"]]

    assert body == {
        "version": "4",
        "groupKey": '{}:{alertname="Hot"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "ops",
        "groupLabels": {"alertname": "Hot"},
        "commonLabels": {"alertname": "Hot", "severity": "page"},
        "commonAnnotations": {"runbook": "http://r"},
        "routeLabels": {},
        "externalURL": "http://tocsin",
        "notification_reason": "new alerts added",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "Hot", "device": "d1", "severity": "page"},
                "annotations": {"runbook": "http://r", "summary": "d1 is hot"},
                "startsAt": "2023-11-14T22:13:20.123456789Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "",
                "fingerprint": event().fingerprint,
            },
            {
                "status": "resolved",
                "labels": {"alertname": "Hot", "device": "d2", "severity": "page"},
                "annotations": {"runbook": "http://r", "summary": "d2 is hot"},
                "startsAt": "2023-11-14T22:13:20.123456789Z",
                "endsAt": "2023-11-14T22:14:20Z",
                "generatorURL": "",
                "fingerprint": resolved.fingerprint,
            },
        ],
    }
    assert extras[0] == {
        "x_id": event().id,
        "x_rule": "g/Hot",
        "x_value": 81.5,
        "x_detectedAt": "2023-11-14T22:13:22Z",
    }
    assert payload([resolved], receiver="ops")["status"] == "resolved"


def test_a_message_that_tells_of_the_whole_past_of_an_alert_has_the_status_of_its_end():
    """So that nobody is paged, after an outage, for something that is over."""
    over, again = event(ends_at=T0 + 60 * 10**9), event(starts_at=T0 + 90 * 10**9)
    body = payload([event(), over], receiver="ops")
    assert (body["status"], [a["status"] for a in body["alerts"]]) == ("resolved", ["firing", "resolved"])
    assert payload([event(), over, again], receiver="ops")["status"] == "firing"
    assert payload([event(), over, event("d2")], receiver="ops")["status"] == "firing"


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (T0, "2023-11-14T22:13:20Z"),
        (T0 + 1, "2023-11-14T22:13:20.000000001Z"),
        (T0 + 120_000_000, "2023-11-14T22:13:20.12Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
        (-(2**63), "1677-09-21T00:12:43.145224192Z"),
    ],
)
def test_times_are_written_as_go_writes_them(time_ns, text):
    assert rfc3339(time_ns) == text


def test_a_post_has_the_promised_headers_and_a_verifiable_signature(server):
    hook = receiver(server, secret="s3cret", headers={"Authorization": "Bearer b"})
    hook.send([event()], repeat=False)
    hook.send([event()], repeat=True)
    hook.send([event("d2")], repeat=False)

    one, two, three = server.requests
    first, again, other, body = one.headers, two.headers, three.headers, one.body
    assert one.path == "/hook?key=k"
    assert json.loads(body)["alerts"][0]["labels"]["device"] == "d1"
    assert first["Content-Type"] == "application/json"
    assert first["Host"] == f"127.0.0.1:{server.port}"
    assert first["Authorization"] == "Bearer b"
    assert "X-Tocsin-Repeat" not in first
    assert again["X-Tocsin-Repeat"] == "true"
    assert first["Idempotency-Key"] == again["Idempotency-Key"] != other["Idempotency-Key"]
    t, v1 = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", first["X-Tocsin-Signature"]).groups()
    assert int(t) == T0 // 10**9
    assert v1 == hmac.new(b"s3cret", t.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert signature(body, secret="other", time_s=int(t)) != first["X-Tocsin-Signature"]


def test_without_a_secret_there_is_no_signature_and_a_secret_file_is_read_at_each_post(server, tmp_path):
    receiver(server).send([event()], repeat=False)
    hook = receiver(server, secret_file=tmp_path / "secret")
    with pytest.raises(RetryLater, match="cannot read the secret of receiver ops"):
        hook.send([event()], repeat=False)
    (tmp_path / "secret").write_text("s\n")
    hook.send([event()], repeat=False)
    assert "X-Tocsin-Signature" not in server.requests[0].headers
    signed = server.requests[1]
    assert signed.headers["X-Tocsin-Signature"] == signature(signed.body, secret="s", time_s=T0 // 10**9)


def test_resolves_may_be_left_out(server):
    hook = receiver(server, send_resolved=False)
    assert not hook.send([event("d2", ends_at=T0)], repeat=False)
    assert server.requests == []
    assert hook.send([event(), event("d2", ends_at=T0)], repeat=False)
    assert len(server.requests[0].json()["alerts"]) == 1


def test_a_value_that_is_not_a_number_is_null(server):
    receiver(server).send([event(value=float("nan"))], repeat=False)
    assert server.requests[0].json()["alerts"][0]["x_value"] is None


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_2xx_is_done(server, status):
    server.answer = lambda request: Answer(status, {}, b"")
    receiver(server).send([event()], repeat=False)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
def test_what_may_pass_is_tried_again(server, status):
    server.answer = lambda request: Answer(status, {"Retry-After": "33"}, b"not now\x1b[2J\r\nplease")
    with pytest.raises(RetryLater) as error:
        receiver(server).send([event()], repeat=False)
    assert str(error.value) == f"127.0.0.1 answered {status}: not now\\x1b[2J please"
    assert error.value.retry_after == 33.0


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "check the credentials in url, headers and secret of receiver ops"),
        (403, "check the credentials in url, headers and secret of receiver ops"),
        (404, "check the url of receiver ops"),
        (410, "check the url of receiver ops"),
    ],
)
def test_what_the_configuration_can_mend_is_tried_again_and_names_the_setting(server, status, advice):
    server.answer = lambda request: Answer(status, body=b"no such channel")
    with pytest.raises(RetryLater) as error:
        receiver(server).send([event()], repeat=False)
    assert str(error.value) == f"127.0.0.1 answered {status}: no such channel; {advice}"


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_anything_else_is_refused_with_the_servers_words(server, status):
    server.answer = lambda request: Answer(status, {}, b"no such channel")
    with pytest.raises(Rejected, match=f"answered {status}: no such channel"):
        receiver(server).send([event()], repeat=False)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server, status):
    server.answer = lambda request: Answer(status, {"Location": f"http://127.0.0.1:{server.port}/internal"}, b"")
    with pytest.raises(RetryLater, match="redirects are not followed: set the url of receiver ops to where it leads"):
        receiver(server).send([event()], repeat=False)
    assert [request.path for request in server.requests] == ["/hook?key=k"]


def test_nobody_at_the_port_is_tried_again_and_says_so():
    with FarSide() as gone:
        pass
    with pytest.raises(RetryLater, match=r"cannot connect to 127.0.0.1:\d+ .*refused.*is it up"):
        receiver(gone).send([event()], repeat=False)


def test_the_next_address_is_tried_when_one_does_not_answer(server):
    hook = receiver(server, url=f"http://hook.example:{server.port}/", resolve=lambda *_: ["127.9.9.9", "127.0.0.1"])
    hook.send([event()], repeat=False)
    assert server.requests[0].headers["Host"] == f"hook.example:{server.port}"


def test_an_answer_that_never_comes_is_left_after_the_timeout(server):
    release = threading.Event()
    server.answer = lambda request: Answer(200 if release.wait(5) else 500, {}, b"")
    began = time.monotonic()
    with pytest.raises(RetryLater, match=r"127.0.0.1 did not answer in time"):
        receiver(server, timeout="100ms").send([event()], repeat=False)
    assert time.monotonic() - began < 2
    release.set()


def test_an_answer_that_drips_cannot_hold_us_beyond_the_timeout():
    """Each byte restarts a socket's own timeout: only a limit on the whole helps."""
    ended = threading.Event()

    def drip(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            while not ended.is_set():
                try:
                    peer.sendall(b"H")
                except OSError:
                    return
                ended.wait(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        began = time.monotonic()
        with pytest.raises(RetryLater, match="did not answer in time"):
            receiver(url=f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout="150ms").send(
                [event()], repeat=False
            )
        assert time.monotonic() - began < 2
        ended.set()
        thread.join()


def test_of_a_huge_answer_only_the_beginning_is_read(server):
    server.answer = lambda request: Answer(400, {}, b"x" * 50_000_000)
    with pytest.raises(Rejected) as error:
        receiver(server).send([event()], repeat=False)
    assert len(str(error.value)) < 400


PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
NOT_PUBLIC = [
    *["127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.20", "169.254.169.254", "100.64.0.1"],
    *["224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1"],
    *["::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "2001:db8::1"],
    *["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::7f00:1", "64:ff9b::7f00:1"],
    *["64:ff9b:1::1", "2002:7f00:1::1", "2001:0:1234::1", "fec0::1"],
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address):
    assert checked_addresses("h", 80, allow=[], who="receiver ops", resolve=lambda *_: [address]) == [address]


@pytest.mark.parametrize("address", NOT_PUBLIC)
@pytest.mark.parametrize("company", [[], ["8.8.8.8"]])
def test_other_addresses_are_refused_even_among_public_ones(address, company):
    with pytest.raises(RetryLater, match="is not public"):
        checked_addresses("h", 80, allow=[], who="receiver ops", resolve=lambda *_: [*company, address])


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_the_message_says_exactly_what_to_add_and_that_helps(address):
    with pytest.raises(RetryLater) as error:
        checked_addresses("h", 80, allow=[], who="receiver ops", resolve=lambda *_: [address])
    advised = re.search(r"add allow_private: \[(.*)\] to receiver ops", str(error.value))[1]
    allow = [ip_network(advised)]
    assert allow[0].num_addresses == 1
    assert checked_addresses("h", 80, allow=allow, who="receiver ops", resolve=lambda *_: [address]) == [address]


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="127.0.0.0/8"))
def test_an_ipv4_address_is_judged_the_same_in_an_ipv6_coat(address):
    assert not is_public(address)
    assert not is_public(ip_address(f"::ffff:{address}"))


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_no_notation_of_the_loopback_gets_through(server, host):
    with pytest.raises(RetryLater, match="is not public"):
        receiver(server, url=f"http://{host}:{server.port}/", allow_private=[]).send([event()], repeat=False)
    assert server.requests == []


def test_the_address_that_was_checked_is_the_one_connected_to(server):
    """A name that resolves to something else the second time (DNS rebinding) gains nothing."""
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    hook = receiver(
        server,
        url=f"http://rebind.example:{server.port}/",
        allow_private=["127.0.0.1/32"],
        resolve=lambda *_: answers.pop(0),
    )
    hook.send([event()], repeat=False)
    assert len(server.requests) == 1
    assert len(answers) == 1, "it was resolved again"
    with pytest.raises(RetryLater, match=r"127\.0\.0\.2 is not public"):
        hook.send([event()], repeat=False)


def test_a_name_without_an_address_is_tried_again():
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(RetryLater, match=r"cannot find the address of nowhere.example .*check the url of receiver ops"):
        receiver(url="http://nowhere.example/", resolve=unknown).send([event()], repeat=False)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "file:///etc/passwd"}, "http:// or https://"),
        ({"url": "gopher://x/"}, "http:// or https://"),
        ({"url": "http://"}, "http:// or https://"),
        ({"url": "http://u:p@x/"}, "user and password out of the URL"),
        ({"url": "http://x:99999/"}, "not a URL"),
        ({"url": "http://x/a b"}, "no spaces"),
        ({"url": "http://x/\r\nEvil: 1"}, "no spaces|not a URL"),
        ({"url": "http://bücher.example/"}, "ASCII"),
        ({"url": "http://x/", "secret": "a", "secret_file": "b"}, "either secret or secret_file"),
        ({"url": "http://x/", "headers": {"A\r\nB": "c"}}, "not the name of a header"),
        ({"url": "http://x/", "headers": {"A": "b\r\nEvil: 1"}}, "printable"),
        ({"url": "http://x/", "allow_private": ["10.0.0.1/8"]}, "host bits set"),
        ({"url": "http://x/", "timeout": "0"}, "greater than 0"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_would_be_right(fields, words):
    with pytest.raises(ValidationError, match=words):
        WebhookConfig(**fields)


def test_secrets_do_not_show():
    config = WebhookConfig(url="http://x/T0K/EN", secret="s3cret", headers={"Authorization": "Bearer b34r"})
    shown = repr(config) + config.model_dump_json()
    assert not [s for s in ("T0K", "s3cret", "b34r") if s in shown]
    with pytest.raises(ValidationError) as error:
        WebhookConfig(url="ftp://x/T0K/EN")
    assert "T0K" not in str(error.value)
