"""Evidence of a campaign without chaos: the real pipeline on what the fleet of chaos sends in a quarter of a minute.

No broker: the messages are put into the journal by hand, and the witness is told what it would have seen.
"""

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path

from ingest.block import SAMPLES, TICK
from ingest.journal import Journal
from simulators.fleet import Publication, publications
from telemetry import Message, SystemClock
from tests.tocsin.chaos.deadline import wait_until
from tocsin.chaos.far_side import AlertReceiver, LineSink
from tocsin.chaos.oracle import Findings, judge
from tocsin.chaos.plant import RECEIVER, scenario, write_config
from tocsin.chaos.witness import Witness
from tocsin.config import load_config
from tocsin.data_dir import DataDir
from tocsin.pipeline import Pipeline

SECONDS = 18
S = 10**9


@dataclass
class Evidence:
    directory: Path
    witness: Witness

    @property
    def data(self) -> DataDir:
        return DataDir(self.directory / "data")

    def copy(self, directory: Path) -> "Evidence":
        shutil.copytree(self.directory, directory, dirs_exist_ok=True)
        witness = Witness()
        for name, value in vars(self.witness).items():
            if name != "_lock":
                setattr(witness, name, copy.deepcopy(value))
        return Evidence(directory, witness)

    def judge(self) -> Findings:
        return judge(self.witness, self.directory / "tocsin.yaml", self.data)


def make_evidence(directory: Path) -> Evidence:
    witness = Witness()
    sink, receiver = LineSink(witness), AlertReceiver(witness)
    for far_side in (sink, receiver):
        far_side.start()
    try:
        file = write_config(directory, broker="mqtt://127.0.0.1:1", sink=sink.url, receiver=receiver.url)
        loaded = load_config(file)
        loaded.data_dir.create()
        write_journal(loaded.data_dir.journal, witness)
        pipeline = Pipeline(loaded)
        pipeline.start()
        goal = pipeline.journal.end
        wait_until(lambda: pipeline.feed.offset >= goal and pipeline.drain(), what="the pipeline drains")
        wait_until(lambda: pipeline.outbox.pending(RECEIVER) == 0, what="the receiver is told")
        pipeline.stop()
        pipeline.close()
    finally:
        for far_side in (sink, receiver):
            far_side.stop()
    return Evidence(directory, witness)


def write_journal(directory: Path, witness: Witness) -> None:
    """As it would be had all come without delay, a tick each second, up to now."""
    epoch = SystemClock().now() - SECONDS * S
    journal = Journal(directory)
    sent = takewhile(lambda p: p.at_ns < SECONDS * S, publications(scenario(seed=1), epoch_ns=epoch))
    for second, group in groupby(sent, key=lambda p: p.at_ns // S):
        journal.append([message(publication, epoch, witness) for publication in group])
        journal.append_tick(epoch + (second + 1) * S)
    journal.close()


def message(publication: Publication, epoch: int, witness: Witness) -> Message:
    witness.note_sent(publication)
    witness.note_published(publication)
    witness.note_delivered(publication.topic, publication.payload)
    witness.note_acknowledged(publication.topic, publication.payload)
    return Message(publication.topic, publication.payload, qos=1, received=epoch + publication.at_ns)


def rewrite_journal(evidence: Evidence, change: Callable[[list[Message]], list[Message]]) -> None:
    """The same journal, but with other messages; runs of messages, ticks and samples stay as they were."""
    old = Journal(evidence.data.journal, read_only=True)
    records = []
    offset = old.start
    while len(found := old.read(offset)):
        records += zip(found.topics, found.payloads, found.flags.tolist(), found.received.tolist(), strict=True)
        offset = found.next
    shutil.rmtree(evidence.data.journal)
    new = Journal(evidence.data.journal)
    for kind, group in groupby(records, key=lambda r: "tick" if r[2] == TICK else "samples" if r[2] & SAMPLES else ""):
        run = [Message(t, bytes(p), qos=1, received=at) for t, p, _, at in group]
        if kind == "tick":
            for tick in run:
                new.append_tick(tick.received)
        elif kind == "samples":
            new.append_samples([m.payload for m in run], run[0].received)
        else:
            new.append(change(run))
    new.close()
