"""The oracle: compares what the witness saw with what tocsin has made of it. A pure function of both.

Here: what counts as lost, invented, corrupted, reordered, repeated. Not here: which alerts the readings demand
(`journaled`, `alert_oracle`).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.dead_letters import DeadLetters
from sinks.alert_history import AlertHistory
from sinks.store import Store
from telemetry import AlertEvent, AlertState, SeriesTable
from telemetry.cursor import read_cursor
from tocsin.chaos import alert_oracle
from tocsin.chaos.journaled import Journaled, Rows, read_journal, replay
from tocsin.chaos.plant import GROUP, SINK, reading
from tocsin.chaos.witness import Key, Told, Witness
from tocsin.data_dir import DataDir

LOSSES = (
    "lost", "invented", "corrupted", "reordered", "alerts_lost", "alerts_invented", "alerts_reordered",
    "notifications_unmarked",
)  # fmt: skip
"""What must never be, by the name of its count."""
_ALL = 1_000_000_000
_EXAMPLES = 20


@dataclass(slots=True)
class Findings:
    """Counts, and in words the first of what must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, count: str, what: str) -> None:
        self.counts[count] += 1
        if sum(example.startswith(count) for example in self.examples) < _EXAMPLES:
            self.examples.append(f"{count}: {what}")

    @property
    def losses(self) -> int:
        return sum(self.counts[name] for name in LOSSES)


def judge(witness: Witness, config: Path, data: DataDir) -> Findings:
    """What came of everything that the witness saw; tocsin must have stopped in order, with nothing left to do."""
    findings = Findings()
    journaled = read_journal(data.journal)
    _messages(findings, witness, journaled)
    expected = _expected_rows(journaled)
    dead = _dead_letters(data)
    _rows(findings, "the store", expected, _stored(data))
    _rows(findings, "the sink", expected, witness.points, excused=witness.poison & dead.points)
    for key in set(journaled.messages):
        if reading(key[1]) is None and key not in dead.messages:
            findings.add("lost", f"a damaged message is no dead letter: {_shown(key)}")
    findings.counts["duplicates"] = len(journaled.messages) - len(set(journaled.messages))
    if journaled.samples_repeated:
        findings.add("invented", f"{journaled.samples_repeated} recorded samples were written twice")
    _alerts(findings, journaled, replay(config, read_cursor(data.cursor("rules"))), _published(data), witness.told)
    _notifications(findings, witness)
    return findings


def _messages(findings: Findings, witness: Witness, journaled: Journaled) -> None:
    messages = list(dict.fromkeys(journaled.messages))
    there = set(messages)
    findings.counts["sent"] = len(witness.sent)
    findings.counts["published"] = len(witness.published)
    findings.counts["acknowledged"] = len(witness.acknowledged)
    findings.counts["journaled"] = len(there)
    findings.counts["lost_by_broker"] = sum(
        key not in there and witness.lost_by_broker(key) for key in witness.published
    )
    for key in witness.promised() - there:
        if key in witness.acknowledged:
            why = "acknowledged by tocsin, and not in the journal"
        else:
            why = "acknowledged by the broker, " + (
                "delivered to tocsin, never acknowledged" if key in witness.delivered else "never delivered to tocsin"
            )
        findings.add("lost", f"{why}: {_shown(key)}")
    _strangers(findings, witness, messages)
    _order(findings, witness, messages)


def _strangers(findings: Findings, witness: Witness, messages: Sequence[Key]) -> None:
    """Messages that nobody has sent: altered ones if there is one of that device and time."""
    times = {(topic, found[0]) for topic, payload in witness.sent if (found := reading(payload))}
    for key in messages:
        if key not in witness.sent:
            found = reading(key[1])
            altered = found is not None and (key[0], found[0]) in times
            findings.add("corrupted" if altered else "invented", f"nobody has sent {_shown(key)}")


def _order(findings: Findings, witness: Witness, messages: Sequence[Key]) -> None:
    """Of each device, what came first was sent first; damaged messages look alike and are left out."""
    number = {key: n for n, key in enumerate(witness.sent)}
    newest: dict[str, int] = {}
    for key in messages:
        if key not in number or reading(key[1]) is None:
            continue
        if number[key] < newest.get(key[0], -1):
            findings.add("reordered", f"came after a later one: {_shown(key)}")
        newest[key[0]] = max(newest.get(key[0], -1), number[key])


def _expected_rows(journaled: Journaled) -> Rows:
    """The readings of all messages, and the recorded samples."""
    rows: Rows = defaultdict(dict)
    for topic, payload in journaled.messages:
        found = reading(payload)
        if found is None:
            continue
        time, values = found
        _, site, device, _ = topic.split("/")
        for metric, value in values.items():
            rows[f'{metric}{{device="{device}", site="{site}"}}'][time] = value
    return {**rows, **journaled.samples}


def _rows(
    findings: Findings, where: str, expected: Rows, found: Rows, *, excused: Iterable[tuple[str, int]] = ()
) -> None:
    passed_over = set(excused)
    for series in sorted(expected.keys() | found.keys()):
        want, have = expected.get(series, {}), found.get(series, {})
        for time in sorted(want.keys() | have.keys()):
            if time not in want:
                findings.add("invented", f"{series} at {time} in {where}: {have[time]}")
            elif time not in have:
                if (series, time) not in passed_over:
                    findings.add("lost", f"{series} at {time} is not in {where}")
            elif want[time] != have[time]:
                findings.add("corrupted", f"{series} at {time} in {where}: {have[time]} instead of {want[time]}")
    findings.counts["rows"] = sum(map(len, expected.values()))


def _stored(data: DataDir) -> Rows:
    table = SeriesTable(data.series, read_only=True)
    with Store(data.store, read_only=True) as store:
        rows = store.read_many(list(range(len(table))))
    found = {str(table[i]): dict(zip(t.tolist(), v.tolist(), strict=True)) for i, (t, v) in rows.items()}
    return {series: readings for series, readings in found.items() if readings}


@dataclass(frozen=True, slots=True)
class _Dead:
    messages: set[Key]
    points: set[tuple[str, int]]


def _dead_letters(data: DataDir) -> _Dead:
    """Messages, and points that the sink has refused for good."""
    letters = DeadLetters(data.dead_letters, read_only=True)
    try:
        found = letters.list(limit=_ALL)
    finally:
        letters.close()
    points = {(letter.topic, json.loads(letter.payload)["time"]) for letter in found if letter.sink == SINK}
    return _Dead({(letter.topic, bytes(letter.payload)) for letter in found}, points)


def _published(data: DataDir) -> list[AlertEvent]:
    """All alert events of the outbox."""
    history = AlertHistory(data.alerts)
    try:
        return history.recent(since=-_ALL, limit=_ALL)
    finally:
        history.close()


def _alerts(
    findings: Findings,
    journaled: Journaled,
    replayed: Sequence[AlertEvent],
    published: Sequence[AlertEvent],
    told: Sequence[Told],
) -> None:
    ours = [event for event in published if event.rule.startswith(f"{GROUP}/")]  # tocsin has alerts of its own, too
    found = {event.id: event for event in published}
    heard = list(dict.fromkeys(id_ for post in told for id_ in post.ids))
    # Of one id, the outbox keeps what came first. A clock set back to the very second makes an id a second time.
    expected = {event.id: event for event in reversed(replayed)}
    _live_equals_replay(findings, expected, {event.id: event for event in ours})
    verdict = alert_oracle.check(journaled, ours)
    for text in verdict.missing:
        findings.add("alerts_lost", f"{text}: the readings demand it")
    for text in verdict.unexpected:
        findings.add("alerts_invented", f"{text}: the readings do not say so")
    for id_ in found.keys() - set(heard):
        findings.add("alerts_lost", f"{_event(found[id_])}: the receiver was never told")
    for id_ in set(heard) - found.keys():
        findings.add("alerts_invented", f"{id_}: the receiver was told, the outbox does not know it")
    _resolves(findings, found, heard)


def _live_equals_replay(findings: Findings, expected: dict[str, AlertEvent], found: dict[str, AlertEvent]) -> None:
    findings.counts["alerts_expected"] = len(expected)
    for id_, event in expected.items():
        if id_ not in found:
            findings.add("alerts_lost", f"{_event(event)}: a replay of the journal has it, the outbox has not")
        elif found[id_] != event:
            findings.add("corrupted", f"{_event(found[id_])}: a replay of the journal says {_event(event)}")
    for id_ in found.keys() - expected.keys():
        findings.add("alerts_invented", f"{_event(found[id_])}: the outbox has it, a replay of the journal has not")


def _resolves(findings: Findings, published: dict[str, AlertEvent], heard: Sequence[str]) -> None:
    """Nobody hears of a resolve before its firing."""
    firing = {(e.rule, e.labels, e.starts_at): id_ for id_, e in published.items() if e.state is AlertState.FIRING}
    place = {id_: n for n, id_ in enumerate(heard)}
    for id_ in heard:
        event = published.get(id_)
        if event is not None and event.state is AlertState.RESOLVED:
            its_firing = firing.get((event.rule, event.labels, event.starts_at), "")
            if place.get(its_firing, len(heard)) > place[id_]:
                findings.add("alerts_reordered", f"{_event(event)}: told before its firing")


def _notifications(findings: Findings, witness: Witness) -> None:
    """Whatever is told again is marked, and the same post has the same key."""
    company: dict[str, tuple[str, ...]] = {}
    tried: set[str] = set()
    for post in witness.posts:
        if company.setdefault(post.key, post.ids) != post.ids:
            findings.add("notifications_unmarked", f"two posts of different events have the key {post.key}")
        if not post.repeat and tried & set(post.ids):
            findings.add("notifications_unmarked", f"{post.key} tells of something again, without X-Tocsin-Repeat")
        tried.update(post.ids)
    keys = {ids: key for key, ids in company.items()}
    if len(keys) < len(company):
        findings.add("notifications_unmarked", "the same events came again with another key")
    received = Counter(id_ for post in witness.told for id_ in post.ids)
    findings.counts["notifications"] = len(received)
    findings.counts["notifications_repeated"] = sum(received.values()) - len(received)


def _event(event: AlertEvent) -> str:
    at = event.ends_at if event.state is AlertState.RESOLVED else event.starts_at
    labels = dict(event.labels)
    return f"{event.rule} {labels.get('device') or labels.get('site')} {event.state} at {at}"


def _shown(key: Key) -> str:
    return f"{key[0]} {key[1][:80]!r}"
