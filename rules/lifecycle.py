"""The life cycle of alerts, over columns: pending → firing → resolved, as Prometheus defines it, in event time.

Here: what conditions mean over time. Not here: how a condition is evaluated.

The life cycle is two debouncers that face each other. A *run* is a stretch of equal conditions. A run of true
conditions that lasts `for` gives the command ON, at its start + `for`; a run of false ones that lasts `keep_firing_for`
gives OFF, at its start + `keep_firing_for`. The alert fires if the last command was ON. That is the state machine of
Prometheus' rules/alerting.go without its evaluation grid: deadlines are instants, and stamped with themselves.

While data is *unknown* (vanished, under `no_data: keep`) the alert's clock stands still: rows of unknown data are taken
out, and the time they took does not count for any timer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rules.columns import Columns, Ints, all_of, any_of, where

FALSE, TRUE, UNKNOWN = 0, 1, 2
"""What is known of a condition."""

NEVER = -(1 << 62)
"""Before every instant."""
FOREVER = 1 << 62
"""After every instant."""


def instance_table() -> Columns:
    """Empty table of alert instances: one row per (rule, label set)."""
    return Columns(
        firing=("?", False),
        condition=("u1", FALSE),  # of the current run: FALSE or TRUE
        unknown=("?", False),  # data is unknown since `clock`
        since=("i8", NEVER),  # start of the current run; later by every time that data was unknown meanwhile
        fired_at=("i8", 0),
        value=("f8", np.nan),  # last value that held
        clock=("i8", NEVER),  # newest instant that was evaluated
        anchor=("i8", NEVER),  # with the engine's up-time added: the instance's "now", the newest of its series' times
        horizon=("i8", FOREVER),  # instant at which the outcome may change although no reading comes
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """n evaluations, sorted by instance and in the order in which they were made."""

    instance: Ints
    """(n,) ascending"""
    time: Ints
    """(n,) ns; never decreasing within an instance"""
    condition: NDArray[np.uint8]
    """(n,) FALSE, TRUE or UNKNOWN"""
    value: NDArray[np.float64]
    """(n,)"""


@dataclass(frozen=True, slots=True)
class Transitions:
    """m changes, ordered by instance and time."""

    instance: Ints
    firing: NDArray[np.bool_]
    """True: began to fire. False: was resolved."""
    time: Ints
    """(m,) ns: the instant itself"""
    starts_at: Ints
    """(m,) ns: when it began to fire"""
    value: NDArray[np.float64]
    row: Ints
    """(m,) index of the row that showed it; n where none did (a timer passed before `until`)"""


def advance(
    table: Columns, rows: Rows, ids: Ints | None, until: Ints, *, hold: Ints | int, keep: Ints | int
) -> Transitions:
    """Apply `rows` and all deadlines before `until` to the instances `ids`.

    ids: (k,) ascending, all instances that rows mention, and others whose timers are to be applied; None: all.
    until: (k,) ns; deadlines before it are applied, one exactly at it is left to what happens at that instant.
    hold, keep: `for` and `keep_firing_for`, ns, of all or (k,) of each.
    Changes `firing … value` of the table; the clocks are the caller's.
    """
    if ids is not None:
        some = table.take(ids)
        local = Rows(np.searchsorted(ids, rows.instance), rows.time, rows.condition, rows.value)
        changes = advance(some, local, None, until, hold=hold, keep=keep)
        table.put(ids, some)
        return replace(changes, instance=ids[changes.instance])
    pause, total, end = _pauses(table, rows, until)
    rows = Rows(rows.instance, rows.time - pause, rows.condition, rows.value)
    is_known = rows.condition != UNKNOWN
    everything = all_of(is_known)
    known = rows if everything else Rows(*(c[is_known] for c in (rows.instance, rows.time, rows.condition, rows.value)))
    runs = _runs(table, known, end)
    if not isinstance(hold, int):
        hold = hold[runs.group]
    if not isinstance(keep, int):
        keep = keep[runs.group]
    at = runs.start + np.where(runs.condition == TRUE, hold, keep)
    given = where((at < runs.stop) | (at <= runs.last_seen))

    owner, command = runs.group[given], runs.condition[given] == TRUE
    before = table.firing[owner]
    again = where(owner[1:] == owner[:-1])
    before[again + 1] = command[again]
    changed = where(command != before)
    begin = runs.first_row[given[changed]]
    if not everything:
        begin = np.append(where(is_known), -1)[begin]  # -1, no row, stays -1
    transitions = _transitions(table, rows, pause, owner[changed], command[changed], at[given[changed]], begin)

    table.firing[owner] = command  # ordered by time: the last one stays
    table.condition[:] = runs.condition[runs.newest]
    table.since[:] = runs.start[runs.newest] + total
    held = where(known.condition == TRUE)
    table.value[known.instance[held]] = known.value[held]
    on = where(transitions.firing)
    table.fired_at[transitions.instance[on]] = transitions.time[on]
    return transitions


def _pauses(table: Columns, rows: Rows, until: Ints) -> tuple[Ints, Ints, Ints]:
    """How long data was unknown: before each row; in all, per instance; and `until` without those pauses."""
    n, total = len(rows.instance), np.zeros(len(table), np.int64)
    if not any_of(table.unknown) and not any_of(rows.condition == UNKNOWN):
        return np.zeros(n, np.int64), total, until
    first = np.ones(n, bool)
    first[1:] = rows.instance[1:] != rows.instance[:-1]
    start = where(first)
    previous_time, was_unknown = np.empty(n, np.int64), np.empty(n, bool)
    previous_time[1:] = rows.time[:-1]
    previous_time[start] = table.clock[rows.instance[start]]
    was_unknown[1:] = rows.condition[:-1] == UNKNOWN
    was_unknown[start] = table.unknown[rows.instance[start]]
    lost = np.where(was_unknown, rows.time - previous_time, 0)
    running = np.cumsum(lost)
    pause = running - np.repeat(running[start] - lost[start], np.diff(np.append(start, n)))

    last = np.append(start[1:], n) - 1 if n else start
    group = rows.instance[last]
    total[group] = pause[last]
    table.unknown[group] = rows.condition[last] == UNKNOWN
    stands = table.clock.copy()
    stands[group] = rows.time[last]
    return pause, total, np.where(table.unknown, stands, until) - total


@dataclass(frozen=True, slots=True)
class _Runs:
    group: Ints
    condition: NDArray[np.uint8]
    start: Ints
    stop: Ints
    """Start of the next run, or the end of what is known."""
    last_seen: Ints
    """Time of the last row in the run; NEVER where it has none."""
    first_row: Ints
    """Index of the row that began it; -1 for the run that was under way."""
    newest: Ints
    """(instances,) the last run of each"""


def _runs(table: Columns, rows: Rows, until: Ints) -> _Runs:
    """The runs of each instance: first the one that was under way, then those that rows begin."""
    k, group = len(table), rows.instance
    previous = table.condition[group]
    inner = where(group[1:] == group[:-1])
    previous[inner + 1] = rows.condition[inner]
    begins = where(rows.condition != previous)

    more = np.bincount(group[begins], minlength=k)
    newest = (more + 1).cumsum() - 1
    under_way = newest - more
    m = k + len(begins)
    begun = np.ones(m, bool)
    begun[under_way] = False
    owner = np.arange(k).repeat(more + 1)
    row, start, condition = np.empty(m, np.int64), np.empty(m, np.int64), np.empty(m, np.uint8)
    row[under_way], start[under_way], condition[under_way] = -1, table.since, table.condition
    row[begun], start[begun], condition[begun] = begins, rows.time[begins], rows.condition[begins]

    count = np.bincount(group, minlength=k)
    end_row = count.cumsum()  # one past the owner's last row
    stop, past, begin_row = np.empty(m, np.int64), np.empty(m, np.int64), row.copy()
    stop[:-1], past[:-1] = start[1:], row[1:]
    stop[newest], past[newest] = until, end_row
    begin_row[under_way] = end_row - count
    last_seen = np.empty(m, np.int64)
    last_seen.fill(NEVER)
    has_rows = where(past > begin_row)
    last_seen[has_rows] = rows.time[past[has_rows] - 1]
    return _Runs(owner, condition, start, stop, last_seen, row, newest)


def _transitions(
    table: Columns, rows: Rows, pause: Ints, instance: Ints, firing: NDArray[np.bool_], at: Ints, begin: Ints
) -> Transitions:
    """Details of the changes `at` (pauses left out)."""
    n = len(rows.instance)
    time, value, fired_at = at.copy(), table.value[instance], table.fired_at[instance]
    if not len(instance):
        return Transitions(instance, firing, time, fired_at, value, begin)
    first, end = rows.instance.searchsorted(instance), rows.instance.searchsorted(instance, side="right")
    row = np.maximum(_first_since(rows.time, at, first, end), begin)
    if n:
        inside = np.minimum(row, n - 1)
        # a deadline at the very instant at which data vanished waits for the next reading
        while any_of(waits := (row < end) & (rows.condition[inside] == UNKNOWN) & (rows.time[inside] == at)):
            row += waits
            inside = np.minimum(row, n - 1)
        upto = row + ((row < end) & (rows.time[inside] <= at))
        some = where(upto > first)
        time[some] += pause[upto[some] - 1]
        held = np.maximum.accumulate(np.where(rows.condition == TRUE, np.arange(n), -1))[upto[some] - 1]
        there = held >= first[some]
        value[some[there]] = rows.value[held[there]]
    again = where(instance[1:] == instance[:-1]) + 1
    fired_at[again] = time[again - 1]
    return Transitions(instance, firing, time, np.where(firing, time, fired_at), value, np.where(row < end, row, n))


def _first_since(time: Ints, at: Ints, first: Ints, end: Ints) -> Ints:
    """The first index in [first, end) whose time is at[i] or later (`end`, if none is); times ascend there."""
    low, high = first, end
    while len(open_ := where(low < high)):
        middle = (low + high) >> 1
        earlier = np.zeros(len(low), bool)
        earlier[open_] = time[middle[open_]] < at[open_]
        low, high = np.where(earlier, middle + 1, low), np.where(earlier | (low >= high), high, middle)
    return low


def shown(
    rows: Rows, changes: Transitions, ids: Ints, firing: NDArray[np.bool_], holds: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which rows can be seen of: the condition holds, or the alert was pending or firing until then.

    firing, holds: (ids,) before the rows; changes: what `advance` made of the rows.
    """
    n, m = len(rows.instance), len(changes.instance)
    group = np.searchsorted(ids, rows.instance)
    first = np.ones(n, bool)
    first[1:] = rows.instance[1:] != rows.instance[:-1]
    seen: NDArray[np.bool_] = (rows.condition == TRUE) | (first & (firing[group] | holds[group]))
    later = where(~seen & ~first)
    if not len(later):
        return seen
    start = np.maximum.accumulate(np.where(first, np.arange(n), 0))
    known = np.maximum.accumulate(np.where(rows.condition != UNKNOWN, np.arange(n), -1))[later - 1]
    held = np.where(known >= start[later], rows.condition[known] == TRUE, holds[group[later]])
    # the newest change at or before the row before, of the same instance
    instance = np.concatenate([changes.instance, rows.instance[later]])
    time = np.concatenate([changes.time, rows.time[later - 1]])
    asks = np.arange(m + len(later)) >= m
    order = np.lexsort((asks, time, instance))
    newest = np.maximum.accumulate(np.where(asks[order], -1, np.arange(len(order))))
    at = order[newest[asks[order]]]
    row = order[asks[order]] - m
    turned = (newest[asks[order]] >= 0) & (instance[at] == rows.instance[later[row]])
    fired = firing[group[later]]
    fired[row[turned]] = changes.firing[at[turned]]
    seen[later] = held | fired
    return seen
