"""The whole program on a simulated fleet: what was published is what is stored, everywhere; every alert is right."""

import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any, Literal

import pytest

from simulators.demo import demo_scenario
from simulators.publisher import Report, run
from simulators.scenario import Scenario
from simulators.truth import Verdict, judge
from telemetry import Series, SystemClock
from tests.integration.brokers import Mosquitto
from tests.integration.databases import InfluxDB, VictoriaMetrics
from tests.integration.published import Published, unharmed, with_faults
from tests.integration.servers import wait_until
from tests.integration.tocsin_process import Stored, Tocsin
from tests.integration.webhooks import Webhook, told

TocsinFactory = Callable[..., Tocsin]
S = 10**9
MS = 10**6
CLOCK = SystemClock()
RULES = (files("tocsin") / "demo_files" / "rules.yml").read_text().partition("\n  - name: sites")[0]
"""The demo's, but for what they record, so that what is stored is what is published."""
HEAD_START_NS = S // 5


def fleet(*, devices: int, seconds: float) -> Scenario:
    """The demo's fleet with all its faults, and two devices whose clocks are wrong, but not beyond belief."""
    scenario = demo_scenario(devices=devices, duration_s=seconds, seed=3, rate=None)
    behind, ahead = unharmed(scenario)[:2]
    return with_faults(
        scenario,
        {"kind": "clock_skew", "devices": [behind], "offset": "-1h"},
        {"kind": "clock_skew", "devices": [ahead], "offset": "2m"},
    )


def publish(scenario: Scenario, broker: Mosquitto, epoch_ns: int, protocol: Literal["5", "3.1.1"]) -> Report:
    report = run(scenario, broker.url, clock=CLOCK, stop=threading.Event(), epoch_ns=epoch_ns, protocol=protocol)
    assert report.complete, "the broker has acknowledged everything"
    return report


def read_victoria(server: VictoriaMetrics) -> Stored:
    found: Stored = {}
    for series in server.export('{device!=""}'):
        labels = {name: value for name, value in series["metric"].items() if name not in ("__name__", "db")}
        name = str(Series.from_labels(series["metric"]["__name__"].removesuffix("_value"), labels))
        found[name] = dict(zip((t * MS for t in series["timestamps"]), series["values"], strict=True))
    return found


def read_influx(server: InfluxDB) -> Stored:
    return {
        str(Series.from_labels(series["name"], series["tags"])): dict(series["values"])
        for series in server.query("plant", "SELECT value FROM /.*/ GROUP BY *")
    }


def victoria_sink(server: VictoriaMetrics) -> dict[str, Any]:
    return {"type": "influx", "name": "victoria", "url": server.url, "bucket": "plant"}


def influx_sink(server: InfluxDB) -> dict[str, Any]:
    return {"type": "influx", "name": "influx1", "url": server.url, "api": "v1", "database": "plant"}


def check_alerts(program: Tocsin, report: Report, end_ns: int) -> None:
    """The alerts up to the end of the scenario; then, all devices are silent."""

    def verdict_now() -> Verdict:
        return judge(report.expected, [e for e in program.alerts() if e.starts_at <= end_ns], end_ns=end_ns)

    # What is stored may still have to be evaluated.
    with suppress(pytest.fail.Exception):
        wait_until(lambda: verdict_now().passed, what="the alerts are published")
    verdict = verdict_now()
    assert verdict.passed, verdict.details
    assert verdict.detected == len(report.expected) >= 5


def check_refused(program: Tocsin, published: Published) -> None:
    letters = program.view("dead-letters", "list", "-n", "1000")["letters"]
    assert {letter["topic"] for letter in letters} == {topic for topic, _ in published.refused}
    assert len({(letter["topic"], letter["payload"]) for letter in letters}) == len(published.refused)
    reasons = {letter["reason"] for letter in letters}
    assert {"bad_json", "time_too_old", "time_in_future"} <= reasons


def test_what_a_fleet_publishes_is_what_every_store_holds_and_every_alert_is_right(
    mosquitto: Mosquitto,
    victoria_metrics: VictoriaMetrics,
    influxdb: InfluxDB,
    webhook: Webhook,
    tocsin_factory: TocsinFactory,
) -> None:
    influxdb.create_database("plant")
    webhook.start()
    program = tocsin_factory(
        {
            "mqtt": {"url": mosquitto.url, "protocol": "5"},
            "sinks": [victoria_sink(victoria_metrics), influx_sink(influxdb)],
            "receivers": [webhook.receiver],
        },
        rules=RULES,
    )
    program.start()
    scenario = fleet(devices=40, seconds=15)
    report = publish(scenario, mosquitto, CLOCK.now() + HEAD_START_NS, "5")
    published = Published(scenario, epoch_ns=report.epoch_ns)

    program.wait_stored(published.count)
    assert published.differences(program.stored()) == []
    wait_until(lambda: not published.differences(read_victoria(victoria_metrics)), what="VictoriaMetrics has it all")
    wait_until(lambda: not published.differences(read_influx(influxdb)), what="InfluxDB has it all")
    check_alerts(program, report, report.epoch_ns + scenario.duration)
    check_refused(program, published)
    wait_until(lambda: webhook.heard() == told(program.alerts()), what="the webhook was told of every event, in order")
    assert all(alert["annotations"]["summary"] for alert in webhook.alerts)
    program.stop()


def test_a_sink_and_a_receiver_that_are_down_delay_nobody_and_get_everything_afterwards(
    mosquitto: Mosquitto,
    victoria_metrics: VictoriaMetrics,
    influxdb: InfluxDB,
    webhook: Webhook,
    tocsin_factory: TocsinFactory,
) -> None:
    influxdb.create_database("plant")
    victoria_metrics.stop()
    program = tocsin_factory(
        {
            "mqtt": {"url": mosquitto.url, "protocol": "3.1.1"},
            "sinks": [victoria_sink(victoria_metrics), influx_sink(influxdb)],
            "receivers": [webhook.receiver],
        },
        rules=RULES,
    )
    program.start()
    scenario = fleet(devices=40, seconds=60)
    begin = CLOCK.now() - 600 * S  # in the past: as fast as the broker takes it
    report = publish(scenario, mosquitto, begin, "3.1.1")
    published = Published(scenario, epoch_ns=begin)

    program.wait_stored(published.count)
    assert published.differences(program.stored()) == []
    wait_until(lambda: not published.differences(read_influx(influxdb)), what="InfluxDB has it all")
    wait_until(lambda: program.says("victoria: cannot reach InfluxDB"), what="the log tells of the dead sink")
    wait_until(lambda: program.says("webhook: cannot connect to"), what="the log tells of the dead receiver")
    check_alerts(program, report, begin + scenario.duration)
    program.kill()

    program.start()
    victoria_metrics.start()
    webhook.start()
    wait_until(lambda: not published.differences(read_victoria(victoria_metrics)), what="VictoriaMetrics has it all")
    wait_until(lambda: webhook.heard() == told(program.alerts()), what="the webhook was told of every event, in order")
    program.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_comes_while_tocsin_is_away_comes_afterwards(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory, protocol: Literal["5", "3.1.1"]
) -> None:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url, "protocol": protocol}}, rules=RULES)
    program.start()
    program.stop()
    scenario = fleet(devices=20, seconds=20)
    begin = CLOCK.now() - 600 * S
    report = publish(scenario, mosquitto, begin, protocol)
    published = Published(scenario, epoch_ns=begin)
    program.start()
    program.wait_stored(published.count)
    assert published.differences(program.stored()) == []
    check_alerts(program, report, begin + scenario.duration)
    program.stop()
