"""Laws of `tocsin dead-letters`: it shows all that is known, purges only what is asked for, and asks for replays."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingest.block import RETAIN
from ingest.dead_letters import DeadLetters
from ingest.journal import Journal
from ingest.rejection import Rejection
from ingest.replay_queue import ReplayQueue
from telemetry import SystemClock
from tests.readme import ROOT
from tocsin.cli import main
from tocsin.data_dir import DataDir
from tocsin.mending import ADVICE

HOUR = 3_600 * 10**9
NOW = SystemClock().now()


def run(data: DataDir, *args: str, expect: int = 0, **more):
    done = CliRunner().invoke(main, ["dead-letters", *args, "--data-dir", str(data.path)], **more)
    assert done.exit_code == expect, done.output
    return done


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """Five dead letters; the last is a point of a sink."""
    directory = DataDir(tmp_path)
    directory.create()
    letters = DeadLetters(directory.dead_letters)
    letters.add(
        [
            Rejection(1, NOW - 5 * HOUR, "sensors/north/d1", b'{"a\x1b": \n1', "bad_json", "line 2", "s", rows=2),
            Rejection(
                2, NOW - 4 * HOUR, "sensors/south/d2", b"\x00\xff" * 20, "bad_encoding", "byte 1", "s", flags=RETAIN
            ),
            Rejection(3, NOW - 3 * HOUR, "old/d3", b"1", "unknown_topic", "no stream", ""),
            Rejection(4, NOW - 2 * HOUR, "old/d4", b"2", "unknown_topic", "no stream", "", flags=4),
            Rejection(5, NOW - HOUR, 't{device="d1"}', b"{}", "refused_by_influx", "conflict", "", sink="influx"),
        ]
    )
    letters.close()
    return directory


def ids(data: DataDir, *args: str) -> list[int]:
    return [letter["id"] for letter in json.loads(run(data, "list", "--json", *args).stdout)["letters"]]


def test_without_a_command_it_lists(data: DataDir):
    assert run(data).stdout == run(data, "list").stdout
    assert "unknown_topic" in run(data, "--reason", "unknown_topic").stdout
    assert "Commands:" in CliRunner().invoke(main, ["dead-letters", "--help"]).stdout


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], [1, 2, 3, 4, 5]),
        (["-n", "2"], [4, 5]),
        (["--limit", "2"], [4, 5]),
        (["--reason", "unknown_topic"], [3, 4]),
        (["--stream", "s"], [1, 2]),
        (["--topic", "sensors/+/d2"], [2]),
        (["--topic", "#", "--reason", "bad_json"], [1]),
        (["--since", "150m"], [4, 5]),
        (["--until", "150m"], [1, 2, 3]),
        (["--since", "270m", "--until", "150m"], [2, 3]),
    ],
)
def test_filters_choose(data: DataDir, args: list[str], expected: list[int]):
    assert ids(data, *args) == expected


def test_a_bad_filter_is_told(data: DataDir):
    assert "# may only be the last level" in run(data, "list", "--topic", "a/#/b", expect=2).stderr


def test_the_summary_says_how_much_of_what_and_since_when(data: DataDir):
    rows = json.loads(run(data, "list", "--summary", "--json").stdout)
    assert [(row["reason"], row["letters"], row["readings"]) for row in rows] == [
        ("bad_encoding", 1, 1),
        ("bad_json", 1, 2),
        ("refused_by_influx", 1, 1),
        ("unknown_topic", 2, 2),
    ]
    assert rows[3]["first"] < rows[3]["last"]
    shown = run(data, "list", "--summary", "--reason", "unknown_topic").stdout
    assert re.fullmatch(r"unknown_topic +2  \S+ \S+ to \S+ \S+  2 readings\n", shown)
    assert run(data, "list", "--summary", "--reason", "bad_encoding").stdout.endswith("  1 reading\n")


def test_show_tells_everything_and_cannot_steer_the_terminal(data: DataDir):
    shown = run(data, "show", "1").stdout
    assert "\x1b" not in shown
    for words in (
        "dead letter: 1",
        "reason:      bad_json",
        "detail:      line 2",
        "mend:        set the stream's format",
        "`tocsin dead-letters replay 1`",
        "topic:       sensors/north/d1",
        "stream:      s",
        "readings:    2",
        "offset:      1 in the journal",
        "payload:     9 bytes",
        '  {"a\\x1b": \n  1',
    ):
        assert words in shown
    binary = run(data, "show", "2").stdout
    assert "sent:        QoS 0, retained" in binary
    assert "  000000  00 ff 00 ff" in binary
    point = run(data, "show", "5").stdout
    assert 'series:      t{device="d1"}' in point
    assert "see what the sink influx says against it" in point


def test_show_gives_machines_the_bytes(data: DataDir):
    found = json.loads(run(data, "show", "4", "--json").stdout)
    assert (found["id"], found["qos"], found["retained"], found["payload_base64"]) == (4, 1, False, "Mg==")
    assert run(data, "show", "2", "--raw").stdout_bytes == b"\x00\xff" * 20
    assert "there is no dead letter 99" in run(data, "show", "99", expect=1).stderr


def test_every_reason_has_an_advice():
    source = "".join(path.read_text() for path in (ROOT / "ingest").glob("*.py"))
    reasons = set(re.findall(r'Refused\(\s*"(\w+)"', source)) | set(re.findall(r'": "(too_many_\w+)"', source))
    assert len(reasons) > 20
    assert reasons <= set(ADVICE)


# --- purge ---


def test_a_purge_asks_and_says_how_many(data: DataDir):
    refused = run(data, "purge", "--reason", "unknown_topic", input="n\n", expect=1)
    assert "Delete 2 dead letters for ever?" in refused.stdout
    assert (refused.stdout[-1], refused.stderr) == ("\n", "nothing deleted\n")
    assert len(ids(data)) == 5
    assert run(data, "purge", "--reason", "unknown_topic", input="y\n").stdout.endswith("2 dead letters deleted\n")
    assert ids(data) == [1, 2, 5]
    assert json.loads(run(data, "purge", "1", "--yes", "--json").stdout) == {"purged": 1}
    assert run(data, "purge", "--all", "--yes").stdout == "2 dead letters deleted\n"
    assert run(data, "purge", "--all").stdout == "0 dead letters deleted\n"


@pytest.mark.parametrize(
    ("command", "said"), [(("purge", "--yes"), "1 dead letter deleted"), (("replay",), "1 to come")]
)
def test_ids_that_are_none_are_named_and_the_others_are_done(data: DataDir, command: tuple[str, ...], said: str):
    done = run(data, *command, "3", "77", "78", expect=1)
    assert said in done.stdout
    assert "77, 78 are no dead letters" in done.stderr
    assert "77 is no dead letter" in run(data, *command, "77", expect=1).stderr


@pytest.mark.parametrize("command", ["purge", "replay"])
@pytest.mark.parametrize("args", [[], ["--all", "3"], ["--all", "--reason", "x"], ["3", "--topic", "#"]])
def test_what_is_meant_must_be_said_in_one_way(data: DataDir, command: str, args: list[str]):
    assert "say which: IDs, or filters such as --reason, or --all" in run(data, command, *args, expect=2).stderr
    assert len(ids(data)) == 5


# --- replay ---


def test_without_a_running_tocsin_it_is_done_at_the_next_start(data: DataDir):
    done = run(data, "replay", "--reason", "unknown_topic")
    assert done.stdout == "2 dead letters: 2 to come at the next start\n"
    assert done.stderr == "no tocsin is running with this data directory\n"
    letters = DeadLetters(data.dead_letters)
    journal = Journal(data.journal)
    ReplayQueue(letters).append(journal)
    assert [payload for payload in journal.read(0).payloads if payload] == [b"1", b"2"]
    journal.close()
    letters.close()


def test_nothing_chosen_is_said(data: DataDir):
    done = run(data, "replay", "--reason", "nope")
    assert (done.stdout, done.stderr) == ("", "no dead letters are so: nothing to replay\n")


def test_beside_a_running_tocsin_it_waits_and_says_what_became_of_each(data: DataDir):
    journal = Journal(data.journal)  # has the lock, as one that runs
    for _ in range(9):
        journal.append_tick(NOW)
    stop = threading.Event()

    def work() -> None:
        letters = DeadLetters(data.dead_letters)
        queue = ReplayQueue(letters)
        while not stop.wait(0.01):
            if queue.append(journal):
                letters.add([Rejection(journal.end - 1, NOW, "old/d4", b"2", "bad_text", "no\x1b", "")])
                queue.judge(journal.end)
            queue.written([letter.id for letter in queue.points("influx")])
        letters.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        done = run(data, "replay", "3", "4", "5", expect=1)
        assert done.stdout == (
            "4 refused again as 6 (bad_text): no\\x1b\n"
            "3 dead letters: 1 decoded, 1 written, 1 refused again (1 bad_text)\n"
        )
        found = json.loads(run(data, "replay", "6", "--json", expect=1).stdout)
        assert (found["letters"], found["refused"], found["to_come"], found["running"]) == (1, 1, 0, True)
        assert [(o["id"], o["state"], o["again"]) for o in found["outcomes"]] == [(6, "refused", 7)]
    finally:
        stop.set()
        thread.join()
        journal.close()


def test_one_that_stops_meanwhile_is_noticed(data: DataDir):
    journal = Journal(data.journal)
    timer = threading.Timer(0.3, journal.close)
    timer.start()
    done = run(data, "replay", "3")
    timer.join()
    assert done.stdout == "1 dead letter: 1 to come at the next start\n"


def test_it_need_not_wait(data: DataDir):
    journal = Journal(data.journal)
    assert run(data, "replay", "--all", "--no-wait").stdout == ("5 dead letters: 5 to come: 1 for the sink influx\n")
    journal.close()
