"""What a fleet has published, as readings: slow and obvious, for comparison with what the stores hold."""

import json
from collections import defaultdict
from itertools import islice

from simulators.fleet import Publication, publications
from simulators.scenario import Fault, Scenario
from telemetry import Series
from tests.integration.tocsin_process import Stored, differences

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
        self._words: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for publication in islice(publications(scenario, epoch_ns=epoch_ns), count):
            time, fields = _document(publication)
            if fields and abs(time - epoch_ns) < FAR_OFF:
                self._add(publication, time, fields)
            else:
                self.refused.add((publication.topic, publication.payload))
        self.count = sum(map(len, self.readings.values()))
        self._optional = self._early_zeros()

    def differences(self, found: Stored) -> list[str]:
        """What is stored but was not published, and the other way round; in words, and only the first of it."""
        expected = {
            series: readings | {t: 0.0 for t in self._optional.get(series, ()) if found.get(series, {}).get(t) == 0}
            for series, readings in self.readings.items()
        }
        return differences(found, expected)

    def _add(self, publication: Publication, time: int, fields: dict[str, object]) -> None:
        site, device = publication.topic.split("/")[1:3]
        for field, value in fields.items():
            if not isinstance(value, str):
                name = str(Series.of(field, device=device, site=site))
                self.readings[name][time] = float(value)  # type: ignore[arg-type]  # a number or a boolean
                continue
            # A word is 1 for itself, and 0 for those that came before it.
            words = self._words[device, field]
            words.setdefault(value, str(Series.of(field, device=device, site=site, state=value)))
            for word, name in words.items():
                self.readings[name][time] = float(word == value)

    def _early_zeros(self) -> dict[str, set[int]]:
        """Series of a word → times before it came first: a copy that comes after that (QoS 1) makes it 0 then, too."""
        zeros: dict[str, set[int]] = {}
        for names in (words.values() for words in self._words.values()):
            times = {time for name in names for time in self.readings[name]}
            zeros |= {name: times - self.readings[name].keys() for name in names}
        return zeros


def _document(publication: Publication) -> tuple[int, dict[str, object]]:
    """Time in ns and fields; none of a malformed message."""
    if publication.kind == "malformed":
        return 0, {}
    fields = json.loads(publication.payload)
    return fields.pop("ts") * MS, fields
