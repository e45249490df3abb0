"""Laws of the generated publications: reproducible, in order, bounded, and in the format that was asked for."""

import itertools
import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.fleet import Publication, publications
from simulators.scenario import Scenario

EPOCH = 1_700_000_000 * 10**9
METRICS = {
    "temperature": {"level": 21, "noise": 0.5, "per_device_spread": 2, "cycle": {"amplitude": 3, "period": "10s"}},
    "running": "boolean",
    "door": {"states": ["closed", 'o%pen"'], "change": "2s"},
}


def scenario(*, seed: int = 0, duration: str = "5s", faults: Any = (), **fleet: Any) -> Scenario:
    fleet = {"name": "pump", "sites": ["ams", "ber"], "devices": 5, "metrics": METRICS} | fleet
    return Scenario.model_validate({"seed": seed, "duration": duration, "fleets": [fleet], "faults": list(faults)})


def sent(plan: Scenario, epoch_ns: int = EPOCH) -> list[Publication]:
    return list(publications(plan, epoch_ns=epoch_ns))


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    window = st.fixed_dictionaries(
        {"at": st.sampled_from(["0", "700ms", "2s"]), "for": st.sampled_from(["300ms", "1500ms", "0"])}
    )
    devices = st.sampled_from([1, 3, 0.5, 1.0])
    effect = st.sampled_from(
        [
            {"kind": "spike", "metric": "temperature", "value": 95},
            {"kind": "step", "metric": "door", "value": "closed"},
            {"kind": "stuck", "metric": "temperature"},
            {"kind": "drift", "metric": "temperature", "rate": -2},
            {"kind": "dropout"},
            {"kind": "duplicate", "rate": 0.5},
            {"kind": "out_of_order"},
            {"kind": "delayed_burst"},
            {"kind": "clock_skew", "offset": "-1h"},
            {"kind": "malformed", "rate": 0.5},
        ]
    )
    fault = st.builds(lambda w, d, e: {**w, "devices": d, **e}, window, devices, effect)
    fleet = st.fixed_dictionaries(
        {
            "devices": st.integers(1, 6),
            "interval": st.sampled_from(["100ms", "333ms", "1s", "7s"]),
            "jitter": st.sampled_from([0, 0.1, 0.9]),
            "format": st.sampled_from(["json", "nested", "records"]),
            "time_unit": st.sampled_from(["s", "ms", "us", "ns", "rfc3339"]),
            "metrics": st.just(METRICS),
        }
    )
    fleets = [{**draw(fleet), "name": name} for name in ("a", "b")[: draw(st.integers(1, 2))]]
    faults = [f | {"fleet": draw(st.sampled_from(fleets))["name"]} for f in draw(st.lists(fault, max_size=4))]
    seed = draw(st.integers(0, 2**40))
    return Scenario.model_validate({"seed": seed, "duration": "4s", "fleets": fleets, "faults": faults})


@settings(max_examples=30, deadline=None)
@given(plan=scenarios())
def test_the_same_scenario_and_seed_give_the_same_bytes(plan: Scenario) -> None:
    assert sent(plan) == sent(plan)


@settings(max_examples=30, deadline=None)
@given(plan=scenarios())
def test_publications_come_in_time_order(plan: Scenario) -> None:
    times = [p.at_ns for p in sent(plan)]
    assert times == sorted(times)


def test_another_seed_gives_other_values_at_other_times() -> None:
    assert [p.at_ns for p in sent(scenario(seed=1))] != [p.at_ns for p in sent(scenario(seed=2))]


def test_an_endless_scenario_begins_like_a_finite_one() -> None:
    finite = sent(scenario(duration="5s"))
    endless = publications(scenario(duration="0"), epoch_ns=EPOCH)
    assert list(itertools.islice(endless, len(finite))) == finite


def test_reports_come_at_the_interval_give_or_take_the_jitter() -> None:
    times: dict[str, list[int]] = {}
    for p in sent(scenario(duration="60s", jitter=0.3)):
        times.setdefault(p.device, []).append(p.at_ns)
    gaps = [b - a for at in times.values() for a, b in itertools.pairwise(at)]
    assert len(times) == 5
    assert all(0.7e9 <= gap <= 1.3e9 for gap in gaps)
    assert max(gaps) - min(gaps) > 0.2e9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), noise=st.sampled_from([0.0, 0.1, 5.0]))
def test_noise_never_leaves_three_standard_deviations(seed: int, noise: float) -> None:
    metric = {"level": 10, "noise": noise, "per_device_spread": 1, "decimals": 6}
    plan = scenario(seed=seed, duration="4s", devices=20, interval="100ms", metrics={"x": metric})
    values = [json.loads(p.payload)["x"] for p in sent(plan)]
    assert all(abs(value - 10) <= 3 * noise + 1 + 1e-6 for value in values)
    if noise:
        assert max(abs(value - 10) for value in values) > 2 * noise


def test_a_cycle_and_a_drift_move_the_level() -> None:
    metric = {"level": 0, "cycle": {"amplitude": 4, "period": "8s"}, "drift": 3600, "decimals": 6}
    for p in sent(scenario(duration="16s", metrics={"x": metric})):
        second = p.at_ns / 1e9
        expected = second + 4 * math.sin(second * math.tau / 8)
        assert abs(json.loads(p.payload)["x"] - expected) < 1e-5


def test_the_payload_carries_the_time_of_sending_in_the_chosen_unit() -> None:
    first = sent(scenario())[0]
    now = EPOCH + first.at_ns
    assert json.loads(first.payload)["ts"] == now // 10**6
    assert json.loads(sent(scenario(time_unit="ns"))[0].payload)["ts"] == now
    assert json.loads(sent(scenario(time_unit="s"))[0].payload)["ts"] == now // 10**6 / 1000
    assert json.loads(sent(scenario(time_unit="rfc3339"))[0].payload)["ts"].startswith("2023-11-14T22:13:20.")
    assert "ts" not in json.loads(sent(scenario(time_field=None))[0].payload)


def test_json_is_flat_and_its_types_are_right() -> None:
    first = sent(scenario())[0]
    body = json.loads(first.payload)
    assert first.topic == f"sensors/{'ams' if int(first.device[-1]) % 2 else 'ber'}/{first.device}/telemetry"
    assert list(body) == ["ts", "temperature", "running", "door"]
    assert isinstance(body["temperature"], float)
    assert body["running"] is True
    assert body["door"] == "closed"
    assert first.readings == 3


def test_states_change_in_turn() -> None:
    for p in sent(scenario(duration="9s")):
        assert json.loads(p.payload)["door"] == ["closed", 'o%pen"'][p.at_ns // (2 * 10**9) % 2]


def test_nested_puts_the_values_into_an_object_of_their_own() -> None:
    assert list(json.loads(sent(scenario(format="nested"))[0].payload)["values"]) == ["temperature", "running", "door"]


def test_records_are_an_array_in_time_order_that_ends_at_the_time_of_sending() -> None:
    first = sent(scenario(format="records", records=4, time_unit="ns"))[0]
    records = json.loads(first.payload)
    assert [EPOCH + first.at_ns - r["ts"] for r in records] == [750_000_000, 500_000_000, 250_000_000, 0]
    assert len({r["temperature"] for r in records}) > 1
    assert first.readings == 12


def test_scalars_are_one_message_for_each_metric() -> None:
    found = sent(scenario(format="scalar", topic="{fleet}/{site}/{device}/{metric}", devices=1, duration="1s"))
    assert [p.topic.rpartition("/")[2] for p in found] == ["temperature", "running", "door"]
    assert 10 < float(found[0].payload) < 30
    assert [p.payload for p in found[1:]] == [b"true", b"closed"]
    assert {p.readings for p in found} == {1}
