"""Laws of the live view: it fits, it says what is wrong, and it is plain where there is no terminal."""

import io
import logging
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tocsin.foreground import summary
from tocsin.live_view import LiveView, plain_line
from tocsin.status import AccountRow, AlertRow, SessionRow, SinkRow, Snapshot

NOW = 1_700_000_000 * 10**9
SECOND = 10**9


def snapshot(alerts: int = 3, sinks: int = 2, errors: int = 0, **changes) -> Snapshot:
    parts = (("stored", 567_000), ("late", 500), ("duplicate", 300), ("rejected", 0), ("in flight", 90))
    return replace(
        Snapshot(
            time=NOW,
            started=NOW - 83 * SECOND,
            title="tocsin demo · 500 devices",
            session=SessionRow(url="mqtt://127.0.0.1:1883", state="connected", since=NOW - 80 * SECOND),
            messages=123_456,
            readings=567_890,
            messages_per_second=1234.4,
            readings_per_second=5678.0,
            series=1500,
            accounts=(
                AccountRow(stage="messages", received=123_456, parts=(("decoded", 123_400), ("rejected", 56))),
                AccountRow(stage="store", received=567_890, parts=parts),
            ),
            alerts=tuple(
                AlertRow(
                    state="firing", name="TemperatureHigh", device=f"d{i:04}", value=93.2 + i, since=NOW - i * SECOND
                )
                for i in range(alerts)
            ),
            firing=alerts,
            fired=12,
            resolved=9,
            sinks=tuple(SinkRow(name=f"sink{i}", state="running", lag=i, written=5) for i in range(sinks)),
            latency_p50=3_000_000,
            latency_p99=12_000_000,
            errors=tuple(f"error number {i} " + "x" * 100 for i in range(errors)),
        ),
        **changes,
    )


def drawn(shown: Snapshot, width: int = 80, height: int = 24) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None, legacy_windows=False
    )
    console.print(LiveView(lambda: shown, console=console).screen(shown))
    return console.file.getvalue().splitlines()


@settings(max_examples=25)
@given(
    alerts=st.integers(0, 60),
    sinks=st.integers(0, 12),
    errors=st.integers(0, 5),
    size=st.sampled_from([(80, 24), (100, 30), (160, 50)]),
)
def test_the_screen_never_exceeds_the_terminal(alerts, sinks, errors, size):
    lines = drawn(snapshot(alerts, sinks, errors), *size)

    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]


def test_at_80x24_everything_that_matters_is_there():
    text = "\n".join(drawn(snapshot(30, 2, 1)))

    for part in (
        "tocsin demo · 500 devices", "connected 1m20s", "1,234 msgs/s", "5,678 readings/s", "p50 3.0ms p99 12.0ms",
        "567,890", "567,000", "in flight", "✓", "sink1", "30 firing · 12 fired · 9 resolved", "TemperatureHigh",
        "d0000", "more: tocsin alerts", "error number 0",
    ):  # fmt: skip
        assert part in text


def test_hints_are_shown():
    assert "mosquitto_pub -p 1" in "\n".join(drawn(replace(snapshot(), hints=("mosquitto_pub -p 1",))))


def test_rules_that_cannot_be_evaluated_are_seen_in_every_view():
    shown = snapshot(rule_errors=("rule g/a: more than 5 alerts", "rule g/b: many on both sides"))
    assert any("rule g/a: more than 5 alerts" in line for line in drawn(shown))
    assert "rule g/a: more than 5 alerts (and 1 more in error)" in plain_line(shown)
    assert [line for line in summary(shown) if "rule" in line] == [f"  {line}" for line in shown.rule_errors]


def test_accounts_that_do_not_balance_stand_out():
    wrong = snapshot(accounts=(AccountRow(stage="store", received=10, parts=(("stored", 9),)),), imbalances=("store",))

    assert "✗" in "\n".join(drawn(wrong))
    assert "ACCOUNTS OF store DO NOT BALANCE: 10 received, but 9 stored" in plain_line(wrong)


def test_what_is_off_for_a_moment_while_rows_move_on_alarms_nobody():
    passing = snapshot(accounts=(AccountRow(stage="store", received=10, parts=(("stored", 9),)),))

    assert "✗" not in "\n".join(drawn(passing))
    assert "DO NOT BALANCE" not in plain_line(passing)
    sound = replace(passing, accounts=(AccountRow("store", 10, (("stored", 10),)),), imbalances=("store",))
    assert "DO NOT BALANCE" not in plain_line(sound), "the audit has not looked again"


def test_inner_stages_and_receivers_take_room_only_when_something_is_wrong_with_them():
    rows = tuple(
        AccountRow(stage, 2, (("done", 1),)) for stage in ("session", "journal", "evaluation", "hook", "store")
    )
    sinks = (SinkRow(name="hook", kind="receiver", state="running", lag=0, written=0),)
    shown = snapshot(accounts=rows, imbalances=("journal",))
    lines = drawn(replace(shown, sinks=sinks))

    assert [line.split()[:2] for line in lines if " = 1 done" in line] == [["✗", "journal"], ["✓", "store"]]


def test_a_session_that_is_down_says_why():
    why = "connection refused: is the broker running?"
    down = snapshot(session=SessionRow(url="mqtt://h:1883", state="disconnected", since=NOW, last_error=why))

    assert why in "\n".join(drawn(down, 120))
    assert why in plain_line(down)


def test_a_sink_that_lags_says_why():
    sink = SinkRow(name="influx", state="retrying", lag=12345, written=0, error="connection refused")
    text = "\n".join(drawn(replace(snapshot(), sinks=(sink,))))

    assert "12,345  retrying  connection refused" in text
    assert "influx retrying, 12,345 behind" in plain_line(replace(snapshot(), sinks=(sink,)))


def test_what_a_device_is_called_cannot_steer_the_terminal():
    evil = AlertRow(state="firing", name="A", device="\x1b[2Jd1", value=1.0, since=NOW)

    assert "\x1b" not in "\n".join(drawn(replace(snapshot(), alerts=(evil,))))


def test_figures_fit_even_when_they_are_huge():
    parts = tuple((name, 10**12) for name in ("stored", "late", "duplicate", "rejected", "in flight"))
    huge = snapshot(accounts=(AccountRow(stage="store", received=5 * 10**12, parts=parts),))

    assert max(map(len, drawn(huge))) <= 80
    assert any("5000.00G" in line and "✓" in line for line in drawn(huge))


def test_without_a_terminal_there_are_plain_lines(capsys):
    stop, shown = threading.Event(), []

    def source() -> Snapshot:
        shown.append(1)
        if len(shown) == 3:
            stop.set()
        return snapshot()

    LiveView(source, console=Console(file=io.StringIO()), line_seconds=0.001).run(stop)

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "1,234 msgs/s · 5,678 readings/s" in lines[0]
    assert "\x1b" not in lines[0]


def test_on_a_terminal_warnings_are_shown_in_the_screen_and_the_log_is_as_before_afterwards():
    stop = threading.Event()
    out = io.StringIO()
    before = list(logging.getLogger().handlers)

    def source() -> Snapshot:
        if not stop.is_set():
            logging.getLogger("tocsin.test").warning("the disk is %s", "full")
            if "warning: the disk is full" in out.getvalue():
                stop.set()
        return snapshot()

    console = Console(file=out, force_terminal=True, width=80, height=24, legacy_windows=False)
    LiveView(source, console=console, refresh_seconds=0.001).run(stop)

    assert "warning: the disk is full" in out.getvalue()
    assert logging.getLogger().handlers == before


@pytest.mark.parametrize("since", [NOW, NOW + SECOND])
def test_an_alert_of_a_device_whose_clock_is_ahead_is_shown_as_new(since):
    ahead = AlertRow(state="firing", name="A", device="d", value=1.0, since=since)

    assert any(
        "FIRING" in line and line.rstrip().endswith("0s") for line in drawn(replace(snapshot(), alerts=(ahead,)))
    )
