"""Laws of logging in: the form, the cookie, sessions, how often one may try, and that unknown users cost the same."""

from __future__ import annotations

import asyncio
import html
import re
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.readme import section
from tests.tocsin.login_rig import HOST, OPERATOR, PASSWORDS, READER, FakeHasher, Guarded, config, log_in
from tocsin.http.attempts import MOST_BY_ADDRESS, MOST_FOR_USER, WINDOW_SECONDS, Attempts, network_of
from tocsin.http.login import local_path
from tocsin.http.passwords import LONGEST, Busy, Passwords
from tocsin.http.sessions import IDLE_SECONDS, LONGEST_SECONDS, MOST_OF_USER, MOST_SESSIONS, Sessions

EVIL_PATHS = [
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/ok\r\nSet-Cookie: a=b",
    "javascript:alert(1)",
    "evil",
    "",
    "/x" * 2_000,
    "/login",
    "/login?next=/login",
    "/logout",
]


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


def test_who_has_logged_in_is_known_until_he_logs_out(guarded: Guarded) -> None:
    browser = guarded.browser()
    answer = log_in(browser, "rita", target="/devices?q=a b")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")  # a blank is no part of a path
    answer = log_in(browser, "rita", target="/devices?q=a%20b")
    assert answer.headers["location"] == "/devices?q=a%20b"
    assert browser.get("/who").json() == {"name": "rita", "role": "reader"}
    assert browser.get("/login?next=/who").headers["location"] == "/who"
    kept = {"cookie": f"tocsin_8100={browser.cookies['tocsin_8100']}"}
    answer = browser.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert not browser.cookies
    assert guarded.browser().get("/who", headers=kept).status_code == 303


@pytest.mark.parametrize(
    ("url", "begin", "end"), [(HOST, "tocsin_8100=", ""), ("https://localhost", "__Host-tocsin_443=", "; Secure")]
)
def test_the_cookie_is_for_this_server_only_and_no_script_sees_it(guarded: Guarded, url: str, begin: str, end: str):
    answer = log_in(guarded.browser(url))
    value = answer.headers["set-cookie"]
    assert re.fullmatch(
        re.escape(begin) + r"[\w-]{43}; HttpOnly; Max-Age=604800; Path=/; SameSite=strict" + end, value
    ), value
    gone = guarded.logged_in(url=url).post("/logout").headers["set-cookie"]
    assert gone.startswith(begin + '""; ')
    assert "Max-Age=0" in gone
    assert ("; Secure" in gone) == bool(end)


def test_an_id_that_was_there_before_is_no_session_afterwards(guarded: Guarded) -> None:
    browser = guarded.browser()
    browser.cookies.set("tocsin_8100", "chosen-by-somebody-else", domain="127.0.0.1")
    assert browser.get("/who").status_code == 303
    log_in(browser, "rita")
    first = browser.cookies["tocsin_8100"]
    assert first != "chosen-by-somebody-else"
    log_in(browser, "ada")
    assert browser.cookies["tocsin_8100"] != first
    assert guarded.browser().get("/who", headers={"cookie": f"tocsin_8100={first}"}).status_code == 303


@pytest.mark.parametrize(
    "cookie", ["tocsin_8100=x", "tocsin_8100=", "tocsin_8100", "tocsin_80=x; =", "x" * 9_000, "\xff"]
)
def test_no_other_cookie_opens_anything(guarded: Guarded, cookie: str) -> None:
    guarded.logged_in()
    assert guarded.program().get("/who", headers={"cookie": cookie.encode("latin-1")}).status_code == 401


def test_people_are_sent_to_the_login_and_come_back_to_where_they_were(guarded: Guarded) -> None:
    browser = guarded.browser()
    answer = browser.get("/explore/a%2Fb?expr=up%7B%7D&since=1h")
    assert answer.status_code == 303
    target = parse_qs(urlsplit(answer.headers["location"]).query)["next"][0]
    assert target == "/explore/a%2Fb?expr=up%7B%7D&since=1h"
    page = browser.get(answer.headers["location"])
    assert f'name="next" value="{html.escape(target)}"' in page.text
    assert log_in(browser, target=target).headers["location"] == target
    for path in ("/api/v1/query", "/api/status"):
        assert guarded.browser().get(path).status_code == 401
    assert guarded.browser().post("/ask").status_code == 401


@pytest.mark.parametrize("path", EVIL_PATHS)
def test_a_login_never_leads_elsewhere(guarded: Guarded, path: str) -> None:
    assert local_path(path) == "/"
    answer = log_in(guarded.browser(), target=path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "a" not in answer.cookies
    page = guarded.browser().get("/login", params={"next": path})
    assert 'name="next" value="/"' in page.text


def test_a_path_that_looks_like_another_server_is_not_come_back_to(guarded: Guarded) -> None:
    answer = guarded.browser().get(HOST + "//evil.example/x")
    assert answer.headers["location"] == "/login"


def test_what_is_entered_is_shown_as_text(guarded: Guarded) -> None:
    script = '"><script>alert(1)</script>'
    for page in (
        log_in(guarded.browser(), script, target=f"/{script}"),
        guarded.browser().get("/login", params={"next": f"/{script}"}),
    ):
        assert "<script" not in page.text
        assert html.escape(f"/{script}") in page.text
        assert "script-src" not in page.headers["content-security-policy"]
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
        assert not re.search(r"(src|href)=(?!\"data:)", page.text)  # nothing is fetched from anywhere


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer_for_the_same_work(guarded: Guarded, caplog) -> None:
    answers = [log_in(guarded.browser(), name, "wrong") for name in ("ada", "nobody", "")]
    assert [answer.status_code for answer in answers] == [403] * 3
    said = {answer.text.replace('value="ada" ', "").replace('value="nobody" ', "") for answer in answers[:2]}
    assert len({re.sub(r'value="\w*"', "", text) for text in said}) == 1
    assert "Name or password is wrong" in answers[0].text
    assert guarded.hasher.asked == ["wrong"] * 3
    assert "wrong password" in caplog.text
    assert "'ada'" in caplog.text
    assert "nobody" not in caplog.text  # it may be a password in the wrong field


@pytest.mark.parametrize("name", ["nobody", "ada", "RITA", "rita ", ""])
def test_the_password_of_one_user_lets_in_nobody_else(guarded: Guarded, name: str) -> None:
    browser = guarded.browser()
    assert log_in(browser, name, PASSWORDS["rita"]).status_code == 403
    assert not browser.cookies


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_an_address_that_fails_too_often_has_to_wait(guarded: Guarded, name: str) -> None:
    for _ in range(MOST_BY_ADDRESS):
        assert log_in(guarded.browser(), name, "wrong").status_code == 403
    refused = log_in(guarded.browser(), "ada")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "300")
    assert "5 minutes" in refused.text
    assert len(guarded.hasher.asked) == MOST_BY_ADDRESS
    assert log_in(guarded.browser(client=("192.0.2.8", 1))).status_code == 303
    guarded.monotonic.seconds += WINDOW_SECONDS - 0.5
    assert log_in(guarded.browser()).headers["retry-after"] == "1"
    guarded.monotonic.seconds += 0.5
    assert log_in(guarded.browser()).status_code == 303


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_a_user_who_is_tried_from_everywhere_has_to_wait(guarded: Guarded, name: str) -> None:
    for i in range(MOST_FOR_USER):
        assert log_in(guarded.browser(client=(f"192.0.2.{i}", 1)), name, "wrong").status_code == 403
    assert log_in(guarded.browser(client=("198.51.100.1", 1)), name).status_code == 429
    assert log_in(guarded.browser(client=("198.51.100.1", 1)), "rita").status_code == 303


def test_who_is_right_may_log_in_as_often_as_he_likes(guarded: Guarded) -> None:
    for _ in range(3 * MOST_FOR_USER):
        assert log_in(guarded.browser()).status_code == 303


def test_many_attempts_at_once_are_no_way_around_the_limit() -> None:
    attempts = Attempts(3)
    assert [attempts.wait("a", 0) or attempts.count("a", 0) for _ in range(5)] == [None] * 3 + [WINDOW_SECONDS] * 2
    attempts.give_back("a", 0)
    attempts.give_back("nobody", 0)
    assert attempts.wait("a", 0) == 0


def test_what_is_remembered_of_attempts_is_bounded() -> None:
    attempts = Attempts(3, remembered=10)
    for i in range(1_000):
        attempts.count(i, 0)
    assert len(attempts) == 10
    attempts.give_back(999, 0)
    assert len(attempts) == 9


def test_one_customer_of_a_provider_is_one_address() -> None:
    assert network_of("2001:db8:1:2::3") == network_of("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::3") != network_of("2001:db8:1:2::3")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("") == network_of("testclient") == "unknown"


def test_sessions_end_when_they_are_not_used_and_when_they_are_old() -> None:
    sessions = Sessions()
    id_ = sessions.begin(OPERATOR, 0.0)
    assert sessions.use(id_, IDLE_SECONDS - 1) == OPERATOR
    assert sessions.use(id_, 2 * IDLE_SECONDS - 2) == OPERATOR
    assert sessions.use(id_, 3 * IDLE_SECONDS) is None
    assert len(sessions) == 0
    id_, now = sessions.begin(READER, 0.0), 0.0
    while sessions.use(id_, now) is not None:
        now += IDLE_SECONDS / 2
    assert now == LONGEST_SECONDS


def test_there_are_never_too_many_sessions() -> None:
    sessions = Sessions()
    ids = [sessions.begin(OPERATOR, float(i)) for i in range(MOST_OF_USER + 1)]
    assert [sessions.use(id_, 30.0) is not None for id_ in ids] == [False] + [True] * MOST_OF_USER
    principals = [type(OPERATOR)(f"u{i}", OPERATOR.role) for i in range(MOST_SESSIONS)]
    others = [sessions.begin(principal, 40.0) for principal in principals]
    assert len(sessions) == MOST_SESSIONS
    assert sessions.use(ids[-1], 40.0) is None
    assert sessions.use(others[0], 40.0) is not None
    sessions.begin(OPERATOR, 40.0 + IDLE_SECONDS)
    assert len(sessions) == 1


def test_ids_of_sessions_are_long_and_kept_nowhere() -> None:
    sessions = Sessions()
    ids = {sessions.begin(OPERATOR, 0.0) for _ in range(10)}
    assert {len(id_) for id_ in ids} == {43}  # 256 bits
    assert not any(id_ in repr(vars(sessions)) for id_ in ids)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"name=ada&password=x", "text/plain", 400),
        (b'{"name": "ada"}', "application/json", 400),
        (b"name=" + b"a" * 10_000, "application/x-www-form-urlencoded", 400),
        (b"&".join([b"a=b"] * 20), "application/x-www-form-urlencoded", 400),
        (b"name=\xff", "application/x-www-form-urlencoded", 400),
        (b"name=%ff&password=%00", "application/x-www-form-urlencoded", 403),
        (b"", "application/x-www-form-urlencoded", 403),
        (b"name=ada&name=rita&password=x", "application/x-www-form-urlencoded; charset=utf-8", 403),
    ],
)
def test_what_is_no_form_is_refused(guarded: Guarded, content: bytes, kind: str, status: int) -> None:
    answer = guarded.browser().post("/login", content=content, headers={"content-type": kind})
    assert answer.status_code == status


def test_other_methods_have_no_meaning(guarded: Guarded) -> None:
    assert guarded.browser().get("/logout").status_code == 405
    assert guarded.browser().put("/login").headers["allow"] == "GET, HEAD, POST"
    assert guarded.browser().head("/login").status_code == 200


def test_too_long_a_password_costs_nothing_whoever_it_is_for() -> None:
    hasher = FakeHasher()
    passwords = Passwords({"ada": hasher.hash("x" * (LONGEST + 1))}, hasher)
    assert not asyncio.run(passwords.are_right("ada", "x" * (LONGEST + 1)))
    assert not asyncio.run(passwords.are_right("nobody", "x" * (LONGEST + 1)))
    assert hasher.asked == []


def test_a_few_passwords_are_checked_at_once_some_wait_and_the_rest_is_told_to_come_back() -> None:
    gate, running = threading.Event(), []

    class Slow(FakeHasher):
        def verify(self, hashed: str, password: str) -> bool:
            running.append(password)
            gate.wait(20)
            return super().verify(hashed, password)

    hasher = Slow()
    passwords = Passwords({"ada": hasher.hash(PASSWORDS["ada"])}, hasher)

    async def many() -> tuple[list[bool], int, int]:
        tasks = [asyncio.ensure_future(passwords.are_right("ada", PASSWORDS["ada"])) for _ in range(40)]
        refused = [task for task in tasks if isinstance(await _settled(task), Busy)]
        at_once = len(running)
        gate.set()
        done = [await task for task in tasks if task not in refused]
        return done, len(refused), at_once

    async def _settled(task: asyncio.Future[bool]) -> BaseException | None:
        await asyncio.wait({task}, timeout=0.05)
        return task.exception() if task.done() else None

    done, refused, at_once = asyncio.run(many())
    assert (done, refused) == ([True] * 16, 24)
    assert at_once <= 2
    assert asyncio.run(passwords.are_right("ada", PASSWORDS["ada"]))


@pytest.mark.parametrize(
    ("headers", "asks_again"),
    [
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "same-origin", "referer": "http://evil.example/"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"referer": "http://mail.example/"}, True),
        ({"referer": HOST + "/login"}, False),
        ({"referer": "http://[::1"}, True),
        ({}, False),
    ],
)
def test_a_browser_that_follows_a_link_from_elsewhere_asks_again_before_there_is_anything_to_enter(
    guarded: Guarded, headers: dict[str, str], asks_again: bool
) -> None:
    led = guarded.browser().get("/alerts?id=1", headers={"sec-fetch-mode": "navigate", **headers})
    page = guarded.browser().get(led.headers["location"])
    refresh = '<meta http-equiv="refresh" content="0; url=/login?next=/alerts%3Fid%3D1">'
    assert (refresh in page.text, "refresh" in page.text) == (asks_again, asks_again)
    assert "<form" in page.text


def test_where_only_programs_are_known_the_page_says_so() -> None:
    guarded = Guarded(config(users=[], tokens=[{"name": "x", "token_hash": "sha256:" + "0" * 64}]), users=())
    page = guarded.browser().get("/login")
    assert "http.users" in page.text
    assert "<form" not in page.text
    assert log_in(guarded.browser()).status_code == 403


def test_the_readme_tells_the_limits_as_they_are() -> None:
    told = " ".join(section("Who may look").split())
    minutes, hours = WINDOW_SECONDS / 60, IDLE_SECONDS / 3_600
    attempts = f"After {MOST_BY_ADDRESS} wrong passwords from one address, or {MOST_FOR_USER} for one user, within"
    assert f"{attempts} {minutes:g} minutes" in told
    assert f"after {hours:g} hours without use, after a week" in told
    assert LONGEST_SECONDS == 7 * 24 * 3_600
