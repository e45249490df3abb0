"""The fields of Explore: choose a series by metric, device and another label, or write PromQL. Not here: the chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from telemetry import SeriesTable, TocsinError
from tocsin.backend import Backend
from tocsin.console import choices
from tocsin.console.choices import Choice
from tocsin.console.controls import button
from tocsin.console.explore_state import MOST_QUERIES
from tocsin.console.parts import Text, box
from tocsin.console.suggest import SuggestField, labelled


class Picker:
    """Metric → device → any other label; `add` is called with the selector."""

    def __init__(self, backend: Backend, add: Callable[[str], object]) -> None:
        self._backend, self._add = backend, add
        with box("picker"):
            self._metric = self._field("Metric", "any", lambda text: self._values("__name__", text), search=True)
            self._device = self._field("Device", "all", lambda text: self._values("device", text))
            self._label = self._field("Label", "site …", self._labels)
            self._value = self._field("Value", "all", lambda text: self._values(self._label.text, text))
            with box("picker-add"):
                button("Add", self._done, "primary", title="Draw the chosen series")

    def _field(
        self, label: str, hint: str, suggest: Callable[[str], tuple[list[Choice], int]], *, search: bool = False
    ) -> SuggestField:
        with box("picker-field"):
            labelled(label)
            made = SuggestField(label, lambda text, _: suggest(text), lambda _: None, placeholder=hint)
            if search:
                made.props["data-search"] = "true"
        return made

    def _values(self, name: str, typed: str) -> tuple[list[Choice], int]:
        table = table_of(self._backend)
        if table is None or not name:
            return [], 0
        if name == "__name__":
            values = choices.metrics(table)
        else:
            others = {"device": self._device.text} if name != "device" else {}
            values = choices.label_values(table, name, self._metric.text, **others)
        found, in_all = choices.matching(values, "" if typed in values else typed)
        return [Choice(text) for text in found], in_all

    def _labels(self, typed: str) -> tuple[list[Choice], int]:
        table = table_of(self._backend)
        names = [] if table is None else choices.label_names(table, self._metric.text)
        found, in_all = choices.matching((name for name in names if name != "device"), typed)
        return [Choice(text) for text in found], in_all

    def _done(self) -> None:
        labels = {"device": self._device.text, self._label.text: self._value.text}
        metric = self._metric.text
        given = {name: value for name, value in labels.items() if name and value}
        if metric or given:
            self._add(choices.selector(metric, **given))


class Expressions:
    """One field for each expression, with what is wrong below it."""

    def __init__(self, backend: Backend, changed: Callable[[list[str]], object]) -> None:
        self._backend, self._changed = backend, changed
        self._fields: list[SuggestField] = []
        self._wrong: list[Text] = []
        self._rows = box("expressions")
        with box("line"):
            self._more = button("+ Expression", self._another, "quiet", title="Write another PromQL expression")

    def show(self, queries: Sequence[str]) -> None:
        """These; the fields are made anew if there is another number of them."""
        wanted = list(queries) or [""]
        if len(wanted) != len(self._fields):
            self._make(wanted)
        for field, query in zip(self._fields, wanted, strict=True):
            if field.text != query:
                field.text = query

    def complain(self, wrong: Sequence[str]) -> None:
        """One line for each; empty where there is nothing wrong."""
        for i, (field, line) in enumerate(zip(self._fields, self._wrong, strict=True)):
            text = wrong[i] if i < len(wrong) else ""
            field.set_bad(bad=bool(text))
            line.set_text(text)
            line.set_visibility(bool(text))

    def _make(self, queries: Sequence[str]) -> None:
        self._rows.clear()
        self._fields, self._wrong = [], []
        with self._rows:
            for i, query in enumerate(queries):
                self._make_row(i, query)

    def _make_row(self, i: int, query: str) -> None:
        with box("expression"):
            made = SuggestField(
                f"PromQL expression {i + 1}",
                self._complete,
                lambda _: self._told(),
                value=query,
                placeholder='PromQL: temperature{site="ams"}, or avg by (site) (temperature)',
                area=True,
            )
            self._fields.append(made)
            away = button("×", lambda: self._remove(i), "quiet", title="Remove")
            away.props["aria-label"] = f"Remove expression {i + 1}"
        line = Text("", "mistake mono", tag="p").props("role=alert")
        line.set_visibility(False)
        self._wrong.append(line)

    def _complete(self, text: str, caret: int) -> tuple[list[Choice], int]:
        table = table_of(self._backend)
        offered = [] if table is None else choices.completions(table, text, caret)
        return offered, len(offered)

    def _told(self) -> None:
        self._changed([field.text for field in self._fields if field.text.strip()])

    def _remove(self, i: int) -> None:
        self._changed([field.text for at, field in enumerate(self._fields) if at != i and field.text.strip()])
        if len(self._fields) == 1:
            self._fields[0].text = ""

    def _another(self) -> None:
        queries = [field.text for field in self._fields]
        if len(queries) < MOST_QUERIES and all(queries):
            self._make([*queries, ""])


def table_of(backend: Backend) -> SeriesTable | None:
    """None while there are no series yet."""
    try:
        return backend.table
    except TocsinError:
        return None
