"""`tocsin dead-letters replay`: asks for it, and tells what becomes of each. Not here: who does it."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ingest.durable import is_locked
from ingest.replay_queue import Outcome, Progress, ReplayQueue, State
from telemetry import SystemClock
from tocsin.cli.dead_letters import choosing, chosen, dead_letters, name_unknown, open_letters
from tocsin.cli.opening import chosen_data
from tocsin.cli.options import command, data_options, json_option, print_json
from tocsin.words import count, printable

__all__ = ["dead_letters"]
_LOOK_SECONDS = 0.2
_LOOK_FOR_LIFE = 10
"""Every so many looks without progress: whether tocsin still runs."""
_SHOWN_REFUSED = 20


@command(
    "tocsin dead-letters replay 17 18",
    "tocsin dead-letters replay --reason unknown_topic --topic 'plant/#'",
    "tocsin dead-letters replay --all --no-wait",
    group=dead_letters,
)
@choosing
@click.option("--no-wait", is_flag=True, help="Only ask for it.")
@data_options
@json_option("Print one JSON object: what became of each letter.")
def replay(
    ids: tuple[int, ...], no_wait: bool, config_file: Path | None, data_dir: Path | None, as_json: bool, **given: Any
) -> int:
    """Let dead letters go through once more, when what was wrong has been mended.

    Messages are decoded with the configuration of the tocsin that runs, or of the next start, with the times at which
    they were received first. Readings that a sink has refused go to that sink only. What is refused again is a dead
    letter again, and makes the exit code 1, as does an ID that is no dead letter. Ctrl-C ends the
    waiting, not the replay.
    """
    selected = chosen(ids, **given)
    clock, journal = SystemClock(), chosen_data(config_file, data_dir).journal
    letters = open_letters(config_file, data_dir, read_only=False)
    try:
        queue = ReplayQueue(letters)
        unknown = name_unknown(letters, ids)
        id_, total = queue.request(selected, now=clock.now())
        running = bool(total) and is_locked(journal)
        if running and not no_wait:
            try:
                running = _wait(queue, id_, total, journal)
            except KeyboardInterrupt:
                click.echo("the replay goes on: `tocsin dead-letters` shows what is refused again", err=True)
                raise
        progress, outcomes = queue.progress(id_), queue.outcomes(id_)
    finally:
        letters.close()
    if as_json:
        print_json(_as_object(total, running, progress, outcomes))
    else:
        _tell(total, progress, outcomes, running=running)
    return int(unknown or any(outcome.state is State.REFUSED for outcome in outcomes))


def _wait(queue: ReplayQueue, id_: int, total: int, journal: Path) -> bool:
    """Until all is done, with a bar on a terminal; False if tocsin has stopped before that."""
    never = threading.Event()
    clock = SystemClock()
    looks, before = 0, -1
    with click.progressbar(length=total, label="replaying", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        while not (progress := queue.progress(id_)).is_done:
            done = total - _left(progress)
            looks = looks + 1 if done == before else 0
            bar.update(max(0, done - max(0, before)))
            before = done
            if looks % _LOOK_FOR_LIFE == _LOOK_FOR_LIFE - 1 and not is_locked(journal):
                return False
            clock.sleep(_LOOK_SECONDS, never)
    return True


def _left(progress: Progress) -> int:
    return sum(progress.waiting.values()) + progress.states.get(State.APPENDED, 0)


def _tell(total: int, progress: Progress, outcomes: Sequence[Outcome], *, running: bool) -> None:
    if not total:
        click.echo("no dead letters are so: nothing to replay", err=True)
        return
    refused = [outcome for outcome in outcomes if outcome.state is State.REFUSED]
    for outcome in refused[:_SHOWN_REFUSED]:
        click.echo(f"{outcome.letter} refused again as {outcome.again} ({outcome.reason}): {printable(outcome.detail)}")
    if len(refused) > _SHOWN_REFUSED:
        click.echo(f"… and {count(len(refused) - _SHOWN_REFUSED)} more: `tocsin dead-letters list`")
    parts = [f"{count(progress.states[state])} {_WORDS[state]}" for state in _WORDS if progress.states.get(state)]
    if reasons := Counter(outcome.reason for outcome in refused):
        parts[-1] += " (" + ", ".join(f"{count(n)} {reason}" for reason, n in sorted(reasons.items())) + ")"
    if left := _left(progress):
        parts.append(
            f"{count(left)} to come: {_who(progress)}" if running else f"{count(left)} to come at the next start"
        )
    letters = "letter" if total == 1 else "letters"
    click.echo(f"{count(total)} dead {letters}: {', '.join(parts) or 'purged meanwhile'}")
    if left and not running:
        click.echo("no tocsin is running with this data directory", err=True)


_WORDS = {State.DECODED: "decoded", State.WRITTEN: "written", State.REFUSED: "refused again"}


def _who(progress: Progress) -> str:
    """What is waited for."""
    sinks = [f"{count(n)} for the sink {sink}" for sink, n in sorted(progress.waiting.items()) if sink]
    return ", ".join(sinks) or "tocsin is at it"


def _as_object(total: int, running: bool, progress: Progress, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    states = {word: progress.states.get(state, 0) for word, state in _MACHINE_WORDS.items()}
    return {
        "letters": total,
        "running": running,
        **states,
        "to_come": _left(progress),
        "outcomes": [
            {
                "id": outcome.letter,
                "state": outcome.state.value,
                "offset": outcome.offset or None,
                "reason": outcome.reason,
                "detail": outcome.detail,
                "again": outcome.again or None,
            }
            for outcome in outcomes
        ],
    }


_MACHINE_WORDS = {"decoded": State.DECODED, "written": State.WRITTEN, "refused": State.REFUSED}
