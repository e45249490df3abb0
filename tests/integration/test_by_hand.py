"""What somebody publishes by hand is in `tocsin query` within a second."""

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from telemetry import SystemClock
from tests.integration.brokers import Mosquitto
from tests.integration.servers import program, wait_until
from tests.integration.tocsin_process import Tocsin

PATIENCE_SECONDS = 20.0
STREAMS = [
    {"name": "rooms", "topic": "house/{room}/{device}"},
    {"name": "plain", "topic": "plain/{device}/{metric}"},
]


def pub(broker: Mosquitto, *arguments: str) -> None:
    command: list[str | Path] = [
        program("mosquitto_pub", "mosquitto-clients"),
        "-p",
        str(broker.port),
        "-q",
        "1",
        *arguments,
    ]
    subprocess.run(command, check=True, timeout=30)


def query(tocsin: Tocsin, expr: str) -> list[float]:
    """Values of the one series, by time; nothing if there is none yet."""
    result = tocsin.view("query", expr, "--since", "5m")["data"]["result"]
    return [float(value) for series in result for _, value in series["values"]]


def start(tocsin_factory: Callable[..., Tocsin], broker: Mosquitto) -> Tocsin:
    tocsin = tocsin_factory({"mqtt": {"url": broker.url}, "streams": STREAMS})
    tocsin.start()
    return tocsin


def test_what_is_published_by_hand_is_in_a_query_within_a_second(
    mosquitto: Mosquitto, tocsin_factory: Callable[..., Tocsin]
) -> None:
    tocsin = start(tocsin_factory, mosquitto)
    pub(mosquitto, "-t", "house/kitchen/sensor-1", "-m", '{"temp": 20}')
    wait_until(lambda: tocsin.data.store.exists() and tocsin.count() == 1, what="the first reading is stored")

    waits = []
    for n in range(1, 4):
        value = 20 + n / 4
        pub(mosquitto, "-t", "house/kitchen/sensor-1", "-m", json.dumps({"temp": value}))
        published = time.monotonic()
        # Looking as the command does, but without the second that starting a process may take on a busy machine …
        wait_until(lambda n=n: tocsin.count() == n + 1, what=f"{value} is stored")
        waits.append(time.monotonic() - published)
        # … and from then on the command, asked once, shows it.
        assert query(tocsin, 'temp{device="sensor-1"}')[-1] == value
    assert statistics.median(waits) < 1, waits
    assert query(tocsin, "temp") == [20, 20.25, 20.5, 20.75]
    tocsin.stop()


def test_anything_that_is_json_or_a_plain_value_can_be_published_by_hand(
    mosquitto: Mosquitto, tocsin_factory: Callable[..., Tocsin]
) -> None:
    tocsin = start(tocsin_factory, mosquitto)
    seconds = SystemClock().now() // 10**9
    pub(
        mosquitto,
        "-t",
        "house/hall/h1",
        "-m",
        f'{{"ts": {seconds - 60}, "air": {{"t": 1.5, "ok": true}}, "door": "open"}}',
    )
    pub(mosquitto, "-t", "house/hall/h1", "-m", f'{{"ts": {seconds}, "air": {{"t": "2.5"}}, "door": "closed"}}')
    pub(mosquitto, "-t", "plain/p1/power", "-m", "23.5 W")
    pub(mosquitto, "-t", "plain/p1/state", "-m", "ON", "-r")
    tocsin.wait_stored(8, seconds=PATIENCE_SECONDS)
    assert {name: list(readings.values()) for name, readings in tocsin.stored().items()} == {
        'air_t{device="h1", room="hall"}': [1.5, 2.5],
        'air_ok{device="h1", room="hall"}': [1],
        'door{device="h1", room="hall", state="open"}': [1, 0],
        'door{device="h1", room="hall", state="closed"}': [1],
        'power{device="p1"}': [23.5],
        'state{device="p1", state="ON"}': [1],
    }
    assert query(tocsin, "air_t * 2 > 4") != []
    names = {f"{s['series']['__name__']}" for s in tocsin.view("series")}
    assert names == {"air_t", "air_ok", "door", "power", "state"}
    tocsin.stop()
