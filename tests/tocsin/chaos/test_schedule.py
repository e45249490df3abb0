"""Laws of the schedule: reproducible, complete, and fit for its purpose."""

from itertools import islice

from telemetry.crash_points import POINTS
from tocsin.chaos.far_side import RECEIVER_TROUBLES, SINK_TROUBLES
from tocsin.chaos.schedule import FAULTS, Round, rounds
from tocsin.cli.chaos import _ALL


def first(n: int, *faults: str, seed: int = 1) -> list[Round]:
    return list(islice(rounds(faults or tuple(FAULTS), seed=seed), n))


def test_the_same_seed_gives_the_same_rounds_and_another_one_others():
    assert first(50) == first(50)
    assert first(50) != first(50, seed=2)


def test_the_command_line_knows_every_fault():
    assert tuple(FAULTS) == _ALL


def test_in_fifty_rounds_everything_goes_wrong_that_can():
    some = first(50)
    troubles = {(t.fault, t.mode) for r in some for t in r.troubles}
    assert {mode for fault, mode in troubles if fault == "sink"} == set(SINK_TROUBLES)
    assert {mode for fault, mode in troubles if fault == "receiver"} == set(RECEIVER_TROUBLES)
    assert {fault for fault, _ in troubles} | {r.kill for r in some} == set(FAULTS)
    assert {r.point for r in some if r.crash_at} == set(POINTS) - {"dead_letter.replayed"}


def test_only_what_was_asked_for_goes_wrong():
    for faults in (("kill",), ("network", "clock"), ("point", "sink")):
        for this in first(20, *faults):
            assert {t.fault for t in this.troubles} <= set(faults)
            assert this.kill in (*faults, "")
            assert bool(this.kill) == bool({"kill", "point"} & set(faults))


def test_nothing_that_stops_the_messages_comes_with_a_point_to_be_reached():
    assert not [r for r in first(200) if r.crash_at and any(t.blocks for t in r.troubles)]
