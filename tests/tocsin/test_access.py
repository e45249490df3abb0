"""Laws of who may ask: the host's name, the page's origin, the token; what readers cannot do, what is open to all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from tests.tocsin.login_rig import HOST, TOKENS, Guarded, Monotonic, TestClient, config, log_in
from tocsin.http.config import HttpConfig
from tocsin.http.credentials import Credentials
from tocsin.http.login import Logins
from tocsin.http.origins import Hosts, client_of, is_secure
from tocsin.http.roles import Role, role_of
from tocsin.http.sessions import IDLE_SECONDS

LIVE = "ws://127.0.0.1:8100/live"
ELSEWHERE = ("https://evil.example", "http://127.0.0.1:8101", "null", "http://127.0.0.1:8100.evil.example", "x")


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


def hosts(listen: str = "127.0.0.1:8100", *names: str) -> Hosts:
    return Hosts(config(listen=listen, hosts=names))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8100", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8100"])
def test_requests_to_this_machine_are_answered(host: str) -> None:
    assert hosts().know(host)
    assert hosts("0.0.0.0:80").know(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.org",
        "evil.org:8100",
        "127.0.0.1.evil.org",
        "127.0.0.1@evil.org",
        "localhost:8100:1",
        "::1",
        "[::1",
        "localhost.",
        "localhost/",
        " localhost",
        "localhost:²",
        "192.0.2.7",
    ],
)
def test_requests_by_any_other_name_are_refused(host: str) -> None:
    assert not hosts().know(host)
    assert not hosts("192.168.1.2:80").know(host)


def test_a_server_for_others_has_its_address_and_the_names_that_are_configured() -> None:
    assert hosts("192.168.1.2:80").know("192.168.1.2:80")
    assert hosts("0.0.0.0:80").know("192.168.1.2")
    assert hosts("[::]:80").know("[2001:db8::1]:80")
    assert not hosts("0.0.0.0:80").know("tocsin.example.org")
    named = hosts("0.0.0.0:80", "Tocsin.example.org", "2001:db8::1")
    assert named.know("tocsin.EXAMPLE.org:80")
    assert named.know("[2001:db8::1]")
    assert not named.know("x.tocsin.example.org")


@pytest.mark.parametrize("value", [["evil.org"], [], ["localhost", "localhost"], ["localhost", "evil.org"]])
def test_a_request_without_one_right_host_gets_nothing(guarded: Guarded, value: list[str]) -> None:
    assert guarded.status_of("/healthz", [(b"host", name.encode()) for name in value]) == 421
    assert guarded.status_of("/healthz") == 200


def test_who_uses_a_name_that_is_not_ours_learns_what_to_do(guarded: Guarded) -> None:
    answer = guarded.program(url="http://tocsin.example.org").get("/healthz")
    assert (answer.status_code, "http.hosts" in answer.text) == (421, True)


def test_without_users_everyone_here_is_an_operator(tmp_path) -> None:
    open_to_all = Guarded(HttpConfig(), users=())
    assert open_to_all.program().get("/who").json() == {"name": "local", "role": "operator"}
    assert open_to_all.program().post("/purge").text == '"purged"'
    assert open_to_all.program().get("/login").json()["name"] == "local"  # there is no such page
    assert role_of({}) is Role.READER  # what has not come through the door may do least


def test_with_users_this_machine_is_asked_too(guarded: Guarded) -> None:
    for path in ("/who", "/metrics", "/", "/api/v1/query", "/nothing", "/docs"):
        answer = guarded.program().get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == 'Bearer realm="tocsin"'
        assert "Authorization: Bearer" in answer.json()["error"]
    assert guarded.program().post("/ask").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "//healthz",
        "/healthz/",
        "/healthz/../who",
        "/%68ealthz/x",
        "/HEALTHZ",
        "/login/",
        "//login",
        "/login/../who",
        "/login/%2e%2e/who",
        "/login%2f..%2fwho",
        "/healthz;x",
        "/healthz%00",
        "/./healthz",
        "/logout/x",
        "/login%00",
    ],
)
def test_no_way_of_writing_a_path_opens_another_one(guarded: Guarded, path: str) -> None:
    assert guarded.status_of(path) == 401


def test_health_is_open_to_all_and_tells_them_nothing_of_who_they_are(guarded: Guarded) -> None:
    assert guarded.program().get("/readyz").json() == {"name": None, "role": "reader"}
    assert guarded.program().post("/healthz").status_code == 401
    assert guarded.program(Role.OPERATOR).get("/readyz").json() == {"name": "a operator", "role": "operator"}


def test_a_token_is_let_in_with_its_role(guarded: Guarded) -> None:
    for role in Role:
        assert guarded.program(role).get("/who").json() == {"name": f"a {role}", "role": role}


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer " + "x" * 100_000,
        "Bearer \xe9",
        f"Basic {TOKENS[Role.OPERATOR]}",
        TOKENS[Role.OPERATOR],
        f"Bearer {TOKENS[Role.OPERATOR][:-1]}",
        f"Bearer {TOKENS[Role.OPERATOR]}, x",
    ],
)
def test_what_is_no_good_token_is_refused(guarded: Guarded, header: str) -> None:
    answer = guarded.program().get("/who", headers={"authorization": header.encode("latin-1")})
    assert answer.status_code == 401


def test_a_bad_token_is_not_helped_by_a_cookie_nor_by_a_good_token_beside_it(guarded: Guarded) -> None:
    browser = guarded.logged_in()
    answer = browser.get("/who", headers={"authorization": "Bearer x"})
    assert (answer.status_code, 'error="invalid_token"' in answer.headers["www-authenticate"]) == (401, True)
    good = ("authorization", f"Bearer {TOKENS[Role.OPERATOR]}")
    assert guarded.program().get("/who", headers=[good, ("authorization", "Bearer x")]).status_code == 401
    # a proxy may ask for a name and a password of its own
    assert browser.get("/who", headers={"authorization": "Basic eA=="}).status_code == 200


def test_a_reader_changes_nothing(guarded: Guarded) -> None:
    for reader in (guarded.program(Role.READER), guarded.logged_in("rita")):
        answer = reader.post("/purge")
        assert (answer.status_code, "operator" in answer.json()["detail"]) == (403, True)
        assert reader.post("/ask").status_code == 200
    assert guarded.purged == 0
    for operator in (guarded.program(Role.OPERATOR), guarded.logged_in("ada")):
        assert operator.post("/purge").status_code == 200
    assert guarded.purged == 2


@pytest.mark.parametrize("origin", ELSEWHERE)
def test_a_page_of_another_site_cannot_make_a_browser_change_something(guarded: Guarded, origin: str) -> None:
    for browser in (guarded.logged_in(), Guarded(HttpConfig(), users=()).browser()):
        for headers in ({"origin": origin}, [("origin", HOST), ("origin", origin)]):
            answer = browser.post("/purge", headers=headers)
            assert (answer.status_code, "another site" in answer.json()["error"]) == (403, True)
    assert log_in(guarded.browser()).status_code == 303
    evil = guarded.browser()
    evil.headers["origin"] = origin
    assert log_in(evil).status_code == 403
    assert evil.post("/logout").status_code == 403
    assert guarded.purged == 0


def test_a_cookie_without_an_origin_changes_nothing(guarded: Guarded) -> None:
    browser = guarded.logged_in()
    del browser.headers["origin"]
    assert browser.post("/purge").status_code == 403
    assert browser.get("/who").status_code == 200
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect(LIVE):
        pass


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_cannot_even_ask(guarded: Guarded, site: str) -> None:
    for browser in (guarded.logged_in(), Guarded(HttpConfig(), users=()).browser()):
        del browser.headers["origin"]
        image = browser.get("/who", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"})
        assert image.status_code == 403
        link = browser.get("/who", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"})
        assert link.status_code == 200
        form = browser.post("/ask", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"})
        assert form.status_code == 403


def test_programs_need_no_origin_and_a_token_is_no_cookie(guarded: Guarded) -> None:
    assert guarded.program(Role.OPERATOR).post("/purge").status_code == 200
    elsewhere = {"origin": "https://grafana.example", "sec-fetch-site": "cross-site"}
    assert guarded.program(Role.OPERATOR).post("/purge", headers=elsewhere).status_code == 200
    assert Guarded(HttpConfig(), users=()).program().post("/purge").status_code == 200


def connect(client: TestClient, **headers: str) -> str:
    with client.websocket_connect(LIVE, headers=headers) as socket:
        socket.send_text("hello")
        return socket.receive_text()


def test_a_websocket_is_asked_the_same_questions(guarded: Guarded) -> None:
    assert connect(guarded.logged_in("rita")) == "hello reader"
    assert connect(guarded.program(Role.OPERATOR)) == "hello operator"
    assert connect(Guarded(HttpConfig(), users=()).program()) == "hello operator"
    for client in (guarded.program(), guarded.browser()):
        with pytest.raises(WebSocketDisconnect):
            connect(client)
    for origin in ELSEWHERE:
        for client in (guarded.logged_in(), Guarded(HttpConfig(), users=()).program()):
            with pytest.raises(WebSocketDisconnect):
                connect(client, origin=origin)
    with pytest.raises(WebSocketDisconnect):
        connect(guarded.logged_in(), host="evil.example")


def test_a_websocket_ends_with_its_session(guarded: Guarded) -> None:
    for end in ("logout", "expiry"):
        browser = guarded.logged_in()
        with browser.websocket_connect(LIVE) as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello operator"
            if end == "logout":
                browser.post("/logout")
            else:
                guarded.monotonic.seconds += IDLE_SECONDS
            socket.send_text("still there?")
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
            assert closed.value.code == 1008
    assert guarded.heard == ["hello", "hello"]


def test_an_answer_without_end_ends_with_its_session(guarded: Guarded) -> None:
    cookie = f"tocsin_8100={guarded.logged_in().cookies['tocsin_8100']}"
    headers = [(b"host", b"127.0.0.1:8100"), (b"cookie", cookie.encode())]
    scope = {"type": "http", "method": "GET", "path": "/stream", "headers": headers, "query_string": b""}
    sent: list[Any] = []

    async def stream() -> None:
        over = asyncio.Event()

        async def receive() -> Any:
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 5:
                guarded.monotonic.seconds += IDLE_SECONDS
            if message.get("more_body") is False:
                over.set()

        await asyncio.wait_for(guarded.app(scope | {"server": ("127.0.0.1", 8100)}, receive, send), 20)

    asyncio.run(stream())
    assert [message.get("body") for message in sent] == [None, *[b"event"] * 4, b""]


def test_behind_a_proxy_of_this_machine_its_name_is_ours() -> None:
    guarded = Guarded(config(hosts=["tocsin.example.org"]))
    browser = guarded.browser("http://localhost:8100", client=("127.0.0.1", 1))
    browser.headers.update({"origin": "https://tocsin.example.org", "x-forwarded-proto": "https"})
    answer = log_in(browser)
    assert answer.status_code == 303
    assert "; Secure" in answer.headers["set-cookie"]
    browser.headers["origin"] = "http://tocsin.example.org"  # whoever reads along there may write, too
    assert log_in(browser).status_code == 403
    browser.headers["origin"] = "https://tocsin.example.org:444"
    assert log_in(browser).status_code == 403


def test_only_a_proxy_of_this_machine_is_believed() -> None:
    forwarded = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-for", b"203.0.113.9, 198.51.100.1")]
    scope = {"type": "http", "scheme": "http", "headers": forwarded}
    for client, address, secure in (
        (("192.0.2.7", 1), "192.0.2.7", False),
        (("127.0.0.1", 1), "198.51.100.1", True),
        (("::ffff:127.0.0.1", 1), "198.51.100.1", True),
        (("testclient", 1), "testclient", False),
        (None, "", False),
    ):
        assert (client_of(scope | {"client": client}), is_secure(scope | {"client": client})) == (address, secure)
    assert is_secure({"type": "websocket", "scheme": "wss", "headers": []})


def test_every_answer_tells_browsers_to_be_careful(guarded: Guarded) -> None:
    browser = guarded.logged_in()
    answers = [
        browser.get("/who"),
        guarded.program().get("/who"),
        guarded.program().get("/healthz"),
        guarded.program().get("/login"),
        guarded.browser().get("/who"),
        browser.get("/who", headers={"host": "evil.example"}),
        browser.post("/purge", headers={"origin": "null"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 200, 303, 421, 403]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_logins_are_nobody_s_without_a_cookie() -> None:
    logins = Logins(Credentials(), Monotonic())
    scope = {"type": "http", "headers": [(b"cookie", b"tocsin_0=; tocsin_1=x")], "server": ("127.0.0.1", 0)}
    assert logins.session_of(scope) is None
