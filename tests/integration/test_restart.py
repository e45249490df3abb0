"""Restarts with other rules, streams or receivers: who is told of what, and what is not told again."""

import json
from collections.abc import Callable

from telemetry import AlertEvent
from tests.integration.brokers import Mosquitto
from tests.integration.servers import wait_until
from tests.integration.tocsin_process import Tocsin
from tests.integration.webhooks import Webhook, told

TocsinFactory = Callable[..., Tocsin]


def rules(**alerts: str) -> str:
    return json.dumps({"groups": [{"name": "g", "rules": [{"alert": a, "expr": e} for a, e in alerts.items()]}]})


def report(broker: Mosquitto, device: str, *temperatures: float) -> None:
    topic = f"sensors/s1/{device}/telemetry"
    broker.publish_lines(topic, [json.dumps({"temperature": value}) for value in temperatures])


def in_words(events: list[AlertEvent]) -> list[str]:
    return [f"{dict(e.labels)['alertname']} {dict(e.labels)['device']} {e.state}" for e in events]


def test_after_a_change_of_rules_only_what_is_different_now_is_told(
    mosquitto: Mosquitto, webhook: Webhook, tocsin_factory: TocsinFactory
) -> None:
    webhook.start()
    program = tocsin_factory(
        {"mqtt": {"url": mosquitto.url}, "receivers": [webhook.receiver]}, rules=rules(Hot="temperature > 50")
    )
    program.start()
    report(mosquitto, "d1", 60)
    report(mosquitto, "d2", 60, 40)
    report(mosquitto, "d3", 90)
    first = ["Hot d1 firing", "Hot d2 firing", "Hot d2 resolved", "Hot d3 firing"]
    wait_until(lambda: in_words(program.alerts()) == first, what="the alerts of the first rules")
    program.stop()

    (program.directory / "rules.yml").write_text(rules(Hot="temperature > 70", Warm="temperature > 30"))
    program.start()
    wait_until(lambda: len(program.alerts()) >= 8, what="what is different now is told")
    assert sorted(in_words(program.alerts()[4:])) == ["Hot d1 resolved", *(f"Warm d{n} firing" for n in (1, 2, 3))]
    for _ in range(2):
        program.kill()
        program.start()
        report(mosquitto, "d4", 1)
    program.wait_stored(6)
    assert len(program.alerts()) == 8, "nothing is told again"

    report(mosquitto, "d3", 20)
    wait_until(lambda: len(program.alerts()) == 10, what="it goes on")
    assert sorted(in_words(program.alerts()[8:])) == ["Hot d3 resolved", "Warm d3 resolved"]
    wait_until(lambda: webhook.heard() == told(program.alerts()), what="the receiver was told the same")
    program.stop()


def test_a_new_receiver_is_told_what_fires_and_an_old_one_nothing_again(
    mosquitto: Mosquitto, webhook: Webhook, tocsin_factory: TocsinFactory
) -> None:
    webhook.start()
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}}, rules=rules(Hot="temperature > 50"))
    program.start()
    report(mosquitto, "d1", 60)
    report(mosquitto, "d2", 60, 40)
    wait_until(lambda: len(program.alerts()) == 3, what="the alerts without a receiver")
    program.stop()
    program.change(receivers=[webhook.receiver])
    program.start()
    [firing] = [event for event in program.alerts() if dict(event.labels)["device"] == "d1"]
    wait_until(lambda: len(webhook.alerts) > 0, what="the new receiver is told")
    program.stop()
    program.start()
    report(mosquitto, "d1", 40)
    wait_until(lambda: len(webhook.alerts) > 1, what="the receiver is told of the end")
    program.stop()
    assert [(a["status"], a["labels"]["device"]) for a in webhook.alerts] == [("firing", "d1"), ("resolved", "d1")]
    assert webhook.alerts[0]["x_id"] == firing.id


def test_messages_that_no_stream_knew_are_read_once_the_stream_is_there(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    """New ones; the old ones wait in the dead letters."""
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}})
    program.start()
    mosquitto.publish("other/d1/power", "5")
    report(mosquitto, "d1", 1)
    program.wait_stored(1)
    program.stop()
    program.change(streams=[{"name": "other", "topic": "other/{device}/{metric}"}])
    program.start()
    mosquitto.publish("other/d1/power", "6")
    program.wait_stored(2)
    assert [list(readings.values()) for readings in program.stored().values()] == [[1], [6]]
    program.stop()
