"""The report of a campaign: one JSON object, or a table for people. Not here: how anything is counted (`oracle`)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from tocsin.chaos.campaign import Options, Outcome
from tocsin.chaos.oracle import LOSSES, Findings

_COUNTS = (
    "sent", "published", "acknowledged", "journaled", "rows", "lost", "lost_by_broker", "invented", "corrupted",
    "reordered", "duplicates", "alerts_expected", "alerts_lost", "alerts_invented", "alerts_reordered",
    "notifications", "notifications_repeated", "notifications_unmarked",
)  # fmt: skip
_WORDS = {
    "sent": "messages sent by the devices",
    "published": "… acknowledged by the broker",
    "acknowledged": "… acknowledged by tocsin",
    "journaled": "… in the journal",
    "rows": "readings expected in the store and the sink",
    "lost": "lost",
    "lost_by_broker": "(lost by the broker when it was killed)",
    "invented": "invented",
    "corrupted": "corrupted",
    "reordered": "reordered",
    "duplicates": "duplicates in the journal, recognised",
    "alerts_expected": "alert events expected",
    "alerts_lost": "… lost",
    "alerts_invented": "… invented",
    "alerts_reordered": "… resolved before they fired",
    "notifications": "notifications",
    "notifications_repeated": "… repeated",
    "notifications_unmarked": "… repeated and not marked so",
}


def is_well(findings: Findings, outcome: Outcome) -> bool:
    """Nothing was lost, and nothing else is wrong."""
    return not findings.losses and not outcome.problems


def as_json(options: Options, outcome: Outcome, findings: Findings, evidence: str | None) -> dict[str, Any]:
    """The whole result; `evidence`: where everything is kept, if it is."""
    recovery = sorted(round(seconds * 1000, 1) for seconds in outcome.recoveries_s)
    return {
        "ok": is_well(findings, outcome),
        **{name: findings.counts[name] for name in _COUNTS},
        "recovery_ms": {
            "p50": round(statistics.median(recovery), 1) if recovery else None,
            "max": recovery[-1] if recovery else None,
        },
        "kills": outcome.kills,
        "points": dict(sorted(outcome.points.items())),
        "points_missed": dict(sorted(outcome.points_missed.items())),
        "troubles": dict(sorted(outcome.troubles.items())),
        "brokers_revived": outcome.brokers_revived,
        "faults": list(options.faults),
        "seed": options.seed,
        "broker": options.broker,
        "cold": options.cold,
        "seconds": round(outcome.seconds, 1),
        "problems": outcome.problems,
        "examples": findings.examples,
        "evidence": evidence,
    }


def as_table(result: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    for name in _COUNTS:
        mark = "  ✗" if name in LOSSES and result[name] else ""
        yield f"{result[name]:>9,}  {_WORDS[name]}{mark}"
    recovery = result["recovery_ms"]
    if recovery["p50"] is not None:
        yield f"{recovery['p50']:>9,.0f}  ms from a start to the first acknowledgement; at most {recovery['max']:,.0f}"
    points = result["points"]
    at = f", {sum(points.values())} of them at named points ({', '.join(points)})" if points else ""
    yield f"{result['kills']:>9,}  kills{at}"
    yield from (f"problem: {problem}" for problem in result["problems"])
    yield from result["examples"]
    yield "nothing was lost" if result["ok"] else "SOMETHING IS WRONG, see above"
