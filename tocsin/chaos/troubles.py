"""Troubles: how each is begun and ended. Not here: when (`schedule`), and with what in between (`campaign`)."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.chaos.brokers import Broker
from tocsin.chaos.far_side import AlertReceiver, LineSink
from tocsin.chaos.network import Link
from tocsin.chaos.program import Program
from tocsin.chaos.schedule import Trouble
from tocsin.chaos.witness import Witness

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Stage:
    """All that can be made to fail."""

    witness: Witness
    broker: Broker
    program: Program
    session: Link
    """Between tocsin and the broker."""
    field: Link
    """Between the devices and the broker."""
    sink: LineSink
    receiver: AlertReceiver

    def begin(self, trouble: Trouble) -> None:
        match trouble.fault, trouble.mode:
            case "broker", mode:
                self._end_broker(killed=mode == "kill")
            case "network", "cut":
                self.session.cut()
            case "network", "stall":
                self.session.stall()
            case "network", _:
                self.session.rob()
            case "storm", _:
                self.field.drop()
            case "disk", _:
                self.program.order("disk full")
            case "clock", mode:
                self.program.set_clock(HOUR_S if mode == "ahead" else -HOUR_S)
            case "sink", mode:
                self.sink.begin(mode)
            case "receiver", mode:
                self.receiver.begin(mode)

    def end(self, trouble: Trouble) -> None:
        match trouble.fault:
            case "broker":
                self.broker.start()
            case "network":
                self.session.mend()
            case "disk":
                self.program.order("disk free")
            case "clock":
                self.program.set_clock(0.0)
            case "sink":
                self.sink.mend()
            case "receiver":
                self.receiver.mend()

    def revive_broker(self) -> None:
        """Kill it and start it again."""
        self._end_broker(killed=True)
        self.broker.start()

    def mend_all(self) -> None:
        """Nothing is wrong from now on."""
        self.session.mend()
        self.program.order("disk free")
        self.program.set_clock(0.0)
        self.sink.mend()
        self.receiver.mend()

    def _end_broker(self, *, killed: bool) -> None:
        if killed or self.broker.forgets_on_stop:
            self.witness.note_broker_killed()
        if killed:
            self.broker.kill()
        else:
            self.broker.stop()
