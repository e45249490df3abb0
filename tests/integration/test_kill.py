"""kill -9 of `tocsin run`, again and again, in the middle of a stream: no message is lost, no alert is lost or new."""

import threading
from collections.abc import Callable
from typing import Literal

import pytest

from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.journal import Journal
from rules import Engine
from simulators.publisher import Report, run
from simulators.scenario import Scenario
from telemetry import AlertEvent, AlertState, Counters, SeriesTable, SystemClock, Tick
from tests.integration.brokers import Mosquitto
from tests.integration.published import Published
from tests.integration.servers import wait_until
from tests.integration.tocsin_process import Tocsin
from tocsin.config import load_config

CLEAN_STOP = 2
"""After this kill comes a stop in good order, so that those behind it find a snapshot."""
RECORDS = 200
"""How much must have been received in each life, at least; some last longer."""
CLOCK = SystemClock()
RULES = """
groups:
  - name: kill
    rules:
      - {alert: High, expr: temperature > 50}
      - {alert: HighForLong, expr: temperature > 50, for: 500ms, keep_firing_for: 300ms}
      - {alert: Together, expr: temperature > 50 and on (device) open == 1}
      - {alert: Silent, expr: age(temperature) > 1}
"""


def scenario() -> Scenario:
    """Forty devices at 400 messages a second; at any time some are above the threshold, and some are silent."""
    metrics = {"temperature": {"level": 20, "noise": 1}, "open": {"boolean": False, "change": "700ms"}}
    faults = [
        {"kind": "spike", "devices": 0.5, "metric": "temperature", "value": 80, "at": "1s", "for": "1s", "every": "3s"},
        {"kind": "dropout", "devices": 0.3, "at": "500ms", "for": "2s", "every": "5s"},
        {"kind": "duplicate", "devices": 0.2, "rate": 0.5},
        {"kind": "out_of_order", "devices": 0.2, "rate": 0.5},
    ]
    fleet = {"name": "pump", "devices": 40, "interval": "100ms", "metrics": metrics}
    return Scenario.model_validate({"seed": 7, "fleets": [fleet], "faults": faults})


class Flood:
    """The fleet publishes until it is told to stop."""

    def __init__(self, broker: Mosquitto, protocol: Literal["5", "3.1.1"]) -> None:
        self._stop = threading.Event()
        self._reports: list[Report] = []
        self._thread = threading.Thread(target=self._publish, args=(broker, protocol))
        self._thread.start()

    def _publish(self, broker: Mosquitto, protocol: Literal["5", "3.1.1"]) -> None:
        self._reports.append(run(scenario(), broker.url, clock=CLOCK, stop=self._stop, protocol=protocol))

    def stop(self) -> Report:
        self._stop.set()
        self._thread.join()
        return self._reports[0]


def evaluated_at_once(program: Tocsin) -> list[AlertEvent]:
    """The events of the program's journal, by the same configuration, in one go and with nothing remembered."""
    loaded = load_config(program.config)
    table, counters = SeriesTable(), Counters()
    journal = Journal(program.data.journal, read_only=True)
    feed = Feed(
        journal,
        Decoder(loaded.config.streams, loaded.config.limits, table, counters=counters),
        table,
        dead_letters=Nowhere(),
        counters=counters,
    )
    engine = Engine([rule for group in loaded.groups for rule in group.rules], table)
    events: list[AlertEvent] = []
    while feed.offset < journal.end:
        for item in feed.poll(0):
            events += engine.tick(item) if isinstance(item, Tick) else engine.apply(item)
    return events


class Nowhere:
    def add(self, rejections: object) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "kills", "processes"), [("5", 10, 1), ("3.1.1", 3, 1), ("5", 6, 2)])
def test_no_kill_loses_a_reading_or_an_alert_or_makes_one_up(
    mosquitto: Mosquitto,
    tocsin_factory: Callable[..., Tocsin],
    protocol: Literal["5", "3.1.1"],
    kills: int,
    processes: int,
) -> None:
    config = {"mqtt": {"url": mosquitto.url, "protocol": protocol}, "processes": processes}
    program = tocsin_factory(config, rules=RULES)
    program.start()
    flood = Flood(mosquitto, protocol)
    try:
        for kill in range(1, kills + 1):
            follower = Journal(program.data.journal, read_only=True)
            goal = follower.end + RECORDS * (1 + kill % 4)
            wait_until(lambda goal=goal, follower=follower: follower.wait(goal, 0.1), what="the journal grows")
            if kill == CLEAN_STOP:
                program.stop()
                assert list(program.data.snapshots.iterdir())
                program.start()
            program.kill()
            program.start(until="running with")
    finally:
        report = flood.stop()
    assert report.complete, "the broker has acknowledged everything"

    published = Published(scenario(), epoch_ns=report.epoch_ns, count=report.stats.messages)
    program.wait_stored(published.count)
    program.stop()
    assert published.differences(program.stored()) == []

    expected, found = evaluated_at_once(program), program.alerts()
    by_id = lambda events: sorted(events, key=lambda event: event.id)  # noqa: E731  # short
    assert by_id(found) == by_id(expected)
    assert {event.rule for event in found} == {"kill/High", "kill/HighForLong", "kill/Together", "kill/Silent"}
    assert sum(event.state is AlertState.RESOLVED for event in found) > 50
