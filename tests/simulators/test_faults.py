"""Every kind of fault does what it says, to its devices, in its time, and to nothing else."""

import itertools
import json
from collections import Counter
from typing import Any

import pytest

from simulators.faults import chosen, storms
from simulators.fleet import Publication, publications
from simulators.scenario import Scenario

EPOCH = 1_700_000_000 * 10**9
S = 10**9
METRICS = {
    "temperature": {"level": 21, "noise": 0.5, "decimals": 6},
    "running": "boolean",
    "door": {"states": ["c", "o"]},
}


def scenario(*faults: dict[str, Any], seed: int = 3, duration: str = "10s", **fleet: Any) -> Scenario:
    fleet = {"name": "pump", "devices": 4, "interval": "200ms", "metrics": METRICS, "time_unit": "ns"} | fleet
    return Scenario.model_validate({"seed": seed, "duration": duration, "fleets": [fleet], "faults": list(faults)})


def sent(plan: Scenario) -> list[Publication]:
    return list(publications(plan, epoch_ns=EPOCH))


def body(publication: Publication) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(publication.payload)
    return found


def with_and_without(fault: dict[str, Any]) -> list[tuple[Publication, Publication]]:
    """Each publication with the fault beside the same one without it, for faults that neither add nor remove any."""
    healthy, ill = sent(scenario()), sent(scenario({"at": "2s", "for": "3s", "devices": ["pump-0002"], **fault}))
    assert [(p.device, p.at_ns) for p in healthy] == [(p.device, p.at_ns) for p in ill]
    return list(zip(ill, healthy, strict=True))


def in_window(p: Publication) -> bool:
    return p.device == "pump-0002" and 2 * S <= p.at_ns < 5 * S


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ({"kind": "spike", "metric": "temperature", "value": 95}, lambda t: 95.0),
        ({"kind": "spike", "metric": "temperature", "step": 30}, lambda t: t + 30),
        ({"kind": "step", "metric": "temperature", "value": 95}, lambda t: t + 74),
        ({"kind": "step", "metric": "temperature", "step": -5}, lambda t: t - 5),
    ],
)
def test_spike_and_step_change_the_value_of_their_device_in_their_time_only(fault: dict[str, Any], change: Any) -> None:
    for ill, healthy in with_and_without(fault):
        if in_window(ill):
            assert body(ill)["temperature"] == pytest.approx(change(body(healthy)["temperature"]), abs=2e-6)
        else:
            assert ill == healthy


def test_a_step_of_a_state_or_boolean_sets_it() -> None:
    for metric, value in (("door", "o"), ("running", False)):
        for ill, healthy in with_and_without({"kind": "step", "metric": metric, "value": value}):
            assert body(ill)[metric] == (value if in_window(ill) else body(healthy)[metric])


def test_drift_grows_with_its_rate_a_second() -> None:
    for ill, healthy in with_and_without({"kind": "drift", "metric": "temperature", "rate": 2}):
        grown = 2 * (ill.at_ns - 2 * S) / S if in_window(ill) else 0
        assert body(ill)["temperature"] == pytest.approx(body(healthy)["temperature"] + grown, abs=2e-6)


def test_a_stuck_sensor_repeats_the_first_value_of_each_occurrence() -> None:
    fault = {"kind": "stuck", "metric": "temperature", "at": "1s", "for": "1s", "every": "3s", "devices": ["pump-0001"]}
    groups: dict[int, list[float]] = {}
    for p in sent(scenario(fault)):
        since = p.at_ns - S
        if p.device == "pump-0001" and since >= 0 and since % (3 * S) < S:
            groups.setdefault(since // (3 * S), []).append(body(p)["temperature"])
    assert len(groups) == 3
    assert all(len(set(values)) == 1 and len(values) >= 4 for values in groups.values())
    assert len({values[0] for values in groups.values()}) == 3


def test_a_dropout_silences_its_device_and_nothing_else() -> None:
    plan = scenario({"kind": "dropout", "at": "2s", "for": "3s", "devices": ["pump-0002"]})
    assert sent(plan) == [p for p in sent(scenario()) if not in_window(p)]


def test_a_duplicate_is_the_same_message_again_soon_after() -> None:
    plan = scenario({"kind": "duplicate", "at": "2s", "for": "3s", "devices": ["pump-0002"]})
    originals = [p for p in sent(plan) if p.kind == "reading"]
    copies = [p for p in sent(plan) if p.kind == "duplicate"]
    assert originals == sent(scenario())
    assert [p.payload for p in copies] == [p.payload for p in originals if in_window(p)]


def test_out_of_order_messages_are_overtaken_and_none_is_lost() -> None:
    plan = scenario({"kind": "out_of_order", "at": "2s", "for": "3s", "devices": ["pump-0002"]}, jitter=0.9)
    found = [p for p in sent(plan) if p.device == "pump-0002"]
    newest, late = 0, 0
    for p in found:
        late += body(p)["ts"] < newest
        assert (body(p)["ts"] < newest) == (p.kind == "out_of_order")
        newest = max(newest, body(p)["ts"])
    assert late >= 5
    healthy = [p.payload for p in sent(scenario(jitter=0.9)) if p.device == "pump-0002"]
    assert sorted(p.payload for p in found) == sorted(healthy)


def test_a_delayed_burst_is_silent_and_then_uploads_everything_with_its_original_times() -> None:
    plan = scenario({"kind": "delayed_burst", "at": "2s", "for": "3s", "devices": ["pump-0002"]})
    found = [p for p in sent(plan) if p.device == "pump-0002"]
    assert not [p for p in found if 2 * S <= p.at_ns < 5 * S]
    backlog = [p for p in found if p.kind == "delayed_burst"]
    assert len(backlog) >= 14
    assert {p.at_ns for p in backlog} == {5 * S}
    assert [p.payload for p in found] == [p.payload for p in sent(scenario()) if p.device == "pump-0002"]


def test_a_skewed_clock_shifts_the_times_in_the_payload_and_runs_on() -> None:
    for ill, healthy in with_and_without({"kind": "clock_skew", "offset": "-1h"}):
        shift = -3600 * S if in_window(ill) else 0
        assert body(ill)["ts"] == body(healthy)["ts"] + shift
    for ill, healthy in with_and_without({"kind": "clock_skew", "clock": "1970-01-01T00:00:00Z"}):
        expected = ill.at_ns - 2 * S if in_window(ill) else body(healthy)["ts"]
        assert body(ill)["ts"] == expected
    far = [body(p)["ts"] for p, _ in with_and_without({"kind": "clock_skew", "clock": 2100}) if in_window(p)]
    assert all(4_102_444_800 * S <= ts < 4_102_444_804 * S for ts in far)


@pytest.mark.parametrize("form", ["json", "nested", "records"])
def test_malformed_messages_come_in_addition_and_no_parser_takes_them(form: str) -> None:
    plan = scenario({"kind": "malformed", "at": "2s", "for": "3s", "devices": 1.0, "rate": 0.5}, format=form)
    bad = [p for p in sent(plan) if p.kind == "malformed"]
    assert [p for p in sent(plan) if p.kind != "malformed"] == sent(scenario(format=form))
    assert 10 <= len(bad) <= 50
    assert {p.readings for p in bad} == {0}
    for p in bad:
        with pytest.raises(ValueError):
            json.loads(p.payload)


def test_malformed_scalars_are_no_numbers() -> None:
    fault = {"kind": "malformed", "for": "3s", "devices": 1.0}
    plan = scenario(fault, format="scalar", topic="{device}/{metric}", metrics={"t": 1})
    for p in sent(plan):
        if p.kind == "malformed":
            with pytest.raises(ValueError):
                float(p.payload)


def test_devices_are_chosen_by_name_number_or_fraction_and_by_the_seed() -> None:
    def choose(devices: Any, seed: int = 1) -> list[int]:
        return chosen(scenario({"kind": "dropout", "devices": devices}, devices=100, seed=seed), 0).tolist()

    assert choose(["pump-0007", "pump-0002"]) == [1, 6]
    assert len(set(choose(3))) == 3
    assert len(choose(0.25)) == 25
    assert choose(1.0) == list(range(100))
    assert choose(5) == choose(5)
    assert choose(5) != choose(5, seed=2)


def test_a_fault_that_repeats_does_so_until_the_end() -> None:
    plan = scenario({"kind": "dropout", "at": "1s", "for": "1s", "every": "4s", "devices": 1.0})
    seconds = Counter(p.at_ns // S for p in sent(plan))
    assert [second for second in range(10) if not seconds[second]] == [1, 5, 9]


def test_storms_of_several_faults_come_in_order_even_if_they_never_end() -> None:
    often = {"kind": "reconnect_storm", "at": "3s", "for": "1s", "every": "2s"}
    plan = scenario(often, {"kind": "reconnect_storm", "at": "4s"}, duration="0")
    assert list(itertools.islice(storms(plan, 10**18), 3)) == [(3 * S, 4 * S), (4 * S, 4 * S), (5 * S, 6 * S)]
