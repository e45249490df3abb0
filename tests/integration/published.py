"""What a fleet has published, as readings: slow and obvious, for comparison with what the stores hold."""

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

from simulators.fleet import Publication, publications
from simulators.scenario import Fault, Scenario
from telemetry import Series
from tests.integration.tocsin_process import Stored

MS = 10**6
FAR_OFF = 86_400 * 10**9


def with_faults(scenario: Scenario, *faults: dict[str, object]) -> Scenario:
    return scenario.model_copy(update={"faults": [*scenario.faults, *map(Fault.model_validate, faults)]})


def unharmed(scenario: Scenario) -> list[str]:
    """Devices that no fault befalls."""
    harmed = {name for fault in scenario.faults if isinstance(fault.devices, list) for name in fault.devices}
    return [device.name for fleet in scenario.fleets for device in fleet.all_devices() if device.name not in harmed]


class Published:
    """The first `count` publications of a scenario (all by default), as streams of JSON with `ts` in ms."""

    def __init__(self, scenario: Scenario, *, epoch_ns: int, count: int | None = None) -> None:
        self.readings: Stored = defaultdict(dict)
        self.refused: set[tuple[str, bytes]] = set()
        """Topic and payload of what cannot become readings."""
        self._states: dict[tuple[str, str], list[str]] = defaultdict(list)
        for publication in islice(publications(scenario, epoch_ns=epoch_ns), count):
            time, fields = _document(publication)
            if fields and abs(time - epoch_ns) < FAR_OFF:
                self._add(publication, time, fields)
            else:
                self.refused.add((publication.topic, publication.payload))
        self.count = sum(map(len, self.readings.values()))

    def _add(self, publication: Publication, time: int, fields: dict[str, object]) -> None:
        site, device = publication.topic.split("/")[1:3]
        for field, value in fields.items():
            for state, number in self._values(device, field, value):
                self.readings[str(Series.of(field, device=device, site=site, state=state))][time] = number

    def _values(self, device: str, field: str, value: object) -> Iterator[tuple[str, float]]:
        """A word is 1 for itself, and 0 for those that came before it."""
        if not isinstance(value, str):
            yield "", float(value)  # type: ignore[arg-type]  # a number or a boolean
            return
        known = self._states[device, field]
        if value not in known:
            known.append(value)
        for state in known:
            yield state, float(state == value)


def _document(publication: Publication) -> tuple[int, dict[str, object]]:
    """Time in ns and fields; none of a malformed message."""
    if publication.kind == "malformed":
        return 0, {}
    fields = json.loads(publication.payload)
    return fields.pop("ts") * MS, fields
