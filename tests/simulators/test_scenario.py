"""Laws of the scenario file: what is accepted, and what is said about mistakes."""

from typing import Any

import pytest
from pydantic import ValidationError

from simulators.scenario import BooleanMetric, NumberMetric, Scenario


def scenario(faults: list[dict[str, Any]] | None = None, **fleet: Any) -> Scenario:
    fleet = {
        "name": "pump",
        "devices": 4,
        "metrics": {"temperature": 21, "door": {"states": ["closed", "open"]}},
    } | fleet
    return Scenario.model_validate({"fleets": [fleet], "faults": faults or []})


def test_short_notations_mean_a_level_and_a_boolean() -> None:
    metrics = scenario(metrics={"temperature": 21, "running": "boolean"}).fleets[0].metrics
    assert metrics == {"temperature": NumberMetric(level=21), "running": BooleanMetric(boolean=True)}


def test_devices_are_dealt_out_to_the_sites_in_turn_and_numbered_through() -> None:
    fleet = scenario(sites=["ams", "ber"], devices=3).fleets[0]
    assert fleet.all_devices() == [("pump-0001", "ams"), ("pump-0002", "ber"), ("pump-0003", "ams")]
    per_site = scenario(sites=2, devices=None, devices_per_site=2).fleets[0]
    assert [device.site for device in per_site.all_devices()] == ["site-1", "site-2", "site-1", "site-2"]


def test_durations_are_written_as_in_prometheus() -> None:
    fault = scenario([{"kind": "dropout", "at": "1m", "for": "500ms"}]).faults[0]
    assert (fault.at, fault.lasts) == (60 * 10**9, 500 * 10**6)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "spike", "value": 3}, "spike needs a metric of fleet pump: one of temperature, door"),
        ({"kind": "spike", "metric": "temperature"}, "either value or step"),
        ({"kind": "step", "metric": "door", "value": "ajar"}, "'ajar' is no state of door: use one of closed, open"),
        ({"kind": "step", "metric": "temperature", "value": "hot"}, "'hot' is no value of temperature: write a number"),
        ({"kind": "drift", "metric": "door", "rate": 1}, "door is no number"),
        ({"kind": "dropout", "fleet": "lamp"}, "there is no fleet lamp"),
        ({"kind": "dropout", "devices": ["pump-0009"]}, "fleet pump has no device pump-0009"),
        ({"kind": "dropout", "devices": 1.5}, "a fraction of the devices lies between 0 and 1"),
        ({"kind": "dropout", "for": "2s", "every": "1s"}, "needs a `for` between 0 and `every`"),
        ({"kind": "clock_skew"}, "clock_skew needs either offset"),
        ({"kind": "malformed", "rate": 2}, "rate is a fraction"),
        ({"kind": "dropout", "expect": [{"alert": "A"}]}, "needs a length"),
        ({"kind": "dropout", "for": "5 minutes"}, "is not a duration"),
        ({"kind": "explosion"}, "Input should be"),
        ({"kind": "dropout", "color": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_fault_is_refused_with_what_would_be_right(fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        scenario([fault])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fleet", "message"),
    [
        ({"devices_per_site": 3}, "either devices or devices_per_site"),
        ({"topic": "sensors/{room}"}, "none of the placeholders"),
        ({"topic": "sensors/#"}, "no + and no #"),
        ({"format": "scalar"}, "needs the placeholder {metric}"),
        ({"device": "{fleet}"}, "needs the placeholder {number}"),
        ({"sites": []}, "at least one site"),
        ({"interval": "0"}, "greater than or equal"),
    ],
)
def test_a_wrong_fleet_is_refused_with_what_would_be_right(fleet: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        scenario(**fleet)
    assert message in str(caught.value)


def test_every_problem_of_the_faults_is_reported_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        scenario([{"kind": "drift", "metric": "temperature"}, {"kind": "dropout", "fleet": "lamp"}])
    assert "faults[0]: drift needs a rate" in str(caught.value)
    assert "faults[1]: there is no fleet lamp" in str(caught.value)


def test_two_fleets_never_share_a_device_name() -> None:
    fleet = {"name": "a", "device": "d{number}", "devices": 1, "metrics": {"t": 1}}
    with pytest.raises(ValidationError, match="devices of the same name"):
        Scenario.model_validate({"fleets": [fleet, fleet | {"name": "b"}]})
