"""The campaign: round after round of troubles and kills, then quiet until everything has arrived.

Here: the order of things. Not here: which troubles come (`schedule`), how they are made (`troubles`), when all has
arrived (`draining`), what is compared (`oracle`).
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from telemetry import TocsinError
from tocsin.chaos.brokers import BrokerName, broker_of
from tocsin.chaos.draining import drain
from tocsin.chaos.far_side import AlertReceiver, LineSink
from tocsin.chaos.network import Network, SessionTap
from tocsin.chaos.plant import Devices, write_config
from tocsin.chaos.program import Program
from tocsin.chaos.schedule import Round, rounds
from tocsin.chaos.troubles import Stage
from tocsin.chaos.witness import Witness
from tocsin.data_dir import DataDir

_START_SECONDS = 40.0
_POINT_SECONDS = 8.0
_BROKER_SECONDS = 15.0
_LEAST_SECONDS = 0.3
_KILLED = -signal.SIGKILL
Say = Callable[[str], object]


class CampaignInterrupted(Exception):
    """Somebody has asked to stop."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `tocsin chaos` was asked for."""

    kills: int
    duration_s: float
    """At least so long; 0: until all kills are done."""
    faults: tuple[str, ...]
    seed: int
    broker: BrokerName
    cold: bool
    """Start a new interpreter for each life."""


@dataclass(slots=True)
class Outcome:
    """What happened, besides what is found in the end."""

    kills: int = 0
    points: Counter[str] = field(default_factory=Counter)
    """How often tocsin died at each point."""
    points_missed: Counter[str] = field(default_factory=Counter)
    """Points that were not reached in time; tocsin was killed all the same."""
    troubles: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)
    """From a start of the process to its first acknowledgement."""
    brokers_revived: int = 0
    """The embedded broker hung, and was killed."""
    problems: list[str] = field(default_factory=list)
    """What tocsin must never do, whatever happens to it."""
    seconds: float = 0.0


class Campaign:
    """One run, in a directory of its own. `run` once; then `witness` and `outcome` say what happened."""

    def __init__(self, options: Options, directory: Path, *, stop: threading.Event, say: Say) -> None:
        self.options, self.directory = options, directory
        self._stop, self._say = stop, say
        self.witness = Witness()
        self.outcome = Outcome()
        self.config = directory / "tocsin.yaml"
        self.data = DataDir(directory / "data")
        self.program = Program(self.config, cold=options.cold)

    def run(self) -> None:
        """Until everything has arrived and tocsin has stopped in order. Nothing outlives it, however it ends.

        Raises TocsinError when it cannot go on, CampaignInterrupted.
        """
        began = time.monotonic()
        with self._staged() as (stage, devices):
            self._play_all(stage, devices)
            self._say("quiet now: waiting until everything has arrived")
            stage.mend_all()
            if not self.program.running:
                self._start(stage, crash_at="")
            devices.stop()
            self.outcome.problems += drain(self.witness, self.data, self.program, pause=self._pause)
        self.outcome.seconds = time.monotonic() - began
        self.outcome.problems += self.program.confessions()

    @contextmanager
    def _staged(self) -> Iterator[tuple[Stage, Devices]]:
        """Everything is there but tocsin and the devices, and ends with the context."""
        broker = broker_of(self.options.broker, self.directory / "broker")
        sink, receiver = LineSink(self.witness), AlertReceiver(self.witness)
        with ExitStack() as stack:
            stack.callback(self.program.close)
            stack.callback(broker.kill)
            broker.start()
            network = stack.enter_context(Network())
            for far_side in (sink, receiver):
                far_side.start()
                stack.callback(far_side.stop)
            session = network.link(broker.port, lambda: SessionTap(self.witness))
            devices_link = network.link(broker.port)
            write_config(self.directory, broker=session.url, sink=sink.url, receiver=receiver.url)
            devices = Devices(self.options.seed, devices_link.url, self.witness)
            stack.callback(devices.stop)
            yield Stage(self.witness, broker, self.program, session, devices_link, sink, receiver), devices

    def _play_all(self, stage: Stage, devices: Devices) -> None:
        self._say("starting broker, devices and tocsin")
        self.witness.note_broker_killed()  # it does not know us yet, and owes us nothing
        self.program.start()
        self._await(lambda: self.witness.is_subscribed, devices)
        devices.start()
        self._await(lambda: bool(self.witness.acknowledged), devices)
        began = time.monotonic()
        for this, following in pairwise(rounds(self.options.faults, seed=self.options.seed)):
            if self.outcome.kills >= self.options.kills and time.monotonic() >= began + self.options.duration_s:
                break
            left = self.options.kills - self.outcome.kills
            self._play(stage, _within(this, left), _within(following, left - bool(this.kill)))

    def _await(self, condition: Callable[[], bool], devices: Devices) -> None:
        """At the start only, when nothing is wrong yet."""
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            if devices.failure is not None:
                raise devices.failure
            if not self.program.running or time.monotonic() > deadline:
                raise TocsinError(f"tocsin did not start: see {self.program.log}")
            self._pause(0.01)

    def _play(self, stage: Stage, this: Round, following: Round) -> None:
        what = [str(trouble) for trouble in this.troubles]
        what += [f"kill -9 at {this.crash_at}" if this.crash_at else "kill -9"] if this.kill else []
        self._say(f"round {this.number}: {', '.join(what) or 'nothing happens'}")
        for trouble in this.troubles:
            self.outcome.troubles[str(trouble)] += 1
            if trouble.fault == "stop":
                self._restart(stage, this)
            else:
                stage.begin(trouble)
        self._kill(stage, this)
        for trouble in this.troubles:
            if trouble.blocks:
                stage.end(trouble)
        if not self.program.running:
            self._start(stage, crash_at=following.crash_at, timed=all(t.fault != "broker" for t in this.troubles))
        for trouble in this.troubles:
            if not trouble.blocks:
                stage.end(trouble)

    def _restart(self, stage: Stage, this: Round) -> None:
        """An orderly stop, unless it dies of its point meanwhile."""
        code = self.program.stop()
        if code != 0 and not (code == _KILLED and this.crash_at):
            self.outcome.problems.append(f"asked to stop, tocsin ended with {code}")
        self._start(stage, crash_at=this.crash_at)

    def _kill(self, stage: Stage, this: Round) -> None:
        seconds = max((t.seconds for t in this.troubles), default=_LEAST_SECONDS)
        self.outcome.kills += bool(this.kill)
        if this.crash_at:
            self._await_death(stage, this, seconds)
            return
        self._pause(seconds)
        if this.kill:
            self.program.kill()

    def _await_death(self, stage: Stage, this: Round, seconds: float) -> None:
        """At the point; the far sides work again after a while, since some points are reached only then."""
        if self.program.wait(seconds, pause=self._pause) is None:
            for trouble in this.troubles:
                if trouble.is_far:
                    stage.end(trouble)
            if this.dies_at_stop:
                self.program.terminate()
        code = self.program.wait(_POINT_SECONDS, pause=self._pause)
        if code == _KILLED:
            self.outcome.points[this.point] += 1
            return
        if code is None:
            self.program.kill()
        self.outcome.points_missed[this.point] += 1
        self._say(f"{this.point} was not reached ({'killed' if code is None else f'it ended with {code}'})")
        if code:
            self.outcome.problems.append(f"tocsin ended by itself with {code}")

    def _start(self, stage: Stage, *, crash_at: str, timed: bool = True) -> None:
        """Returns when it has acknowledged a message, or has died of its point."""
        began = self.witness.watch()
        self.program.start(crash_at=crash_at)
        revive_at = began + _BROKER_SECONDS
        while (first := self.witness.first_acknowledgement) is None:
            self._pause(0.005)
            now = time.monotonic()
            if not self.program.running:
                if not crash_at:
                    self.outcome.problems.append("tocsin ended by itself soon after its start")
                return
            if now > began + _START_SECONDS:
                self.outcome.problems.append(f"nothing was acknowledged within {_START_SECONDS:g} s of a start")
                return
            if now > revive_at and self.options.broker == "embedded":
                self._say("the embedded broker does not answer (a known bug of its own): killing it")
                self.outcome.brokers_revived += 1
                revive_at, timed = now + _BROKER_SECONDS, False
                stage.revive_broker()
        if timed:
            self.outcome.recoveries_s.append(first - began)

    def _pause(self, seconds: float) -> None:
        """Raises CampaignInterrupted as soon as somebody asks to stop."""
        if self._stop.wait(seconds):
            raise CampaignInterrupted


def _within(this: Round, kills: int) -> Round:
    """The same without its kill, if there are to be no more."""
    return this if kills > 0 else replace(this, kill="", crash_at="")
