"""Laws of the ledger: what a sink has still to read is measured, so that a row that it never read is missing."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry import DUPLICATE, HISTORICAL, LATE, RECORDED, ReadingBatch
from tocsin.ledger import Ledger, tally_of

CELL = 1 << 14


def rows(*offsets: int, flags: int = 0) -> ReadingBatch:
    n = len(offsets)
    return ReadingBatch.of([0] * n, [0] * n, [0.0] * n, flags=[flags] * n, offset=list(offsets))


def test_every_row_is_of_one_kind():
    flags = [0, RECORDED, LATE, DUPLICATE, DUPLICATE | LATE, HISTORICAL, RECORDED | LATE]
    batch = ReadingBatch.of([0] * 7, [0] * 7, [0.0] * 7, flags=flags)
    assert tally_of(batch) == {"live": 1, "recorded": 1, "late": 2, "duplicate": 2, "other": 1}


def test_rows_that_a_rule_has_made_are_not_given_to_the_rules():
    ledger = Ledger()
    ledger.hand_out(rows(0, 1))
    ledger.hand_out(rows(2, flags=RECORDED))
    ledger.hand_out(rows(3, flags=RECORDED | DUPLICATE))
    assert ledger.received == 2


def test_a_sink_answers_for_what_comes_from_its_beginning_on_and_for_what_it_read_before_the_head():
    ledger = Ledger()
    ledger.begin("ahead", 5)
    ledger.begin("behind", 0)
    ledger.hand_out(rows(4, 5, 6))
    assert (ledger.given("ahead"), ledger.unread("ahead", head=7)) == (2, 2)
    ledger.read("behind", rows(0, 1), 4, head_began=4)
    assert (ledger.given("behind"), ledger.unread("behind", head=7)) == (5, 3)
    ledger.read("behind", rows(4, 5, 6), 7, head_began=4)
    assert (ledger.given("behind"), ledger.unread("behind", head=7)) == (5, 0)


def test_a_row_that_was_never_read_is_missing_as_soon_as_its_place_is_passed_or_all_is_read():
    ledger = Ledger()
    ledger.begin("store", 0)
    ledger.hand_out(rows(1, CELL + 1, CELL + 2))
    ledger.read("store", rows(), 2, head_began=0)
    assert ledger.unread("store", head=CELL + 3) == 3, "offset 2 is still in the cell of the row"
    ledger.read("store", rows(CELL + 1), CELL + 2, head_began=0)
    assert ledger.given("store") - 1 - ledger.unread("store", head=CELL + 3) == 1
    ledger.read("store", rows(CELL + 2), CELL + 3, head_began=0)
    assert ledger.given("store") - 2 - ledger.unread("store", head=CELL + 3) == 1


@given(
    st.lists(st.tuples(st.integers(1, CELL), st.integers(0, 3)), min_size=1, max_size=30),
    st.lists(st.integers(1, 5), min_size=1, max_size=30),
    st.integers(0, 3 * CELL),
)
def test_however_a_sink_lags_what_it_has_read_and_has_still_to_read_is_what_it_was_given(records, strides, begin):
    """Records are gaps to the next offset, and rows in them."""
    ledger, places = Ledger(), []
    at = 0
    for gap, n in records:
        at += gap
        places += [at] * n
    end = at + 1
    ledger.begin("store", begin)
    ledger.hand_out(rows(*places))
    mine = [offset for offset in places if offset >= begin]
    read, cut = 0, begin
    for stride in strides:
        step, mine = mine[:stride], mine[stride:]
        while mine and step and mine[0] == step[-1]:  # a message is never cut
            step.append(mine.pop(0))
        cut = max(cut, step[-1] + 1 if mine and step else end)
        ledger.read("store", rows(*step), cut, head_began=0)
        read += len(step)
        assert ledger.unread("store", head=max(end, begin)) == len(mine) == ledger.given("store") - read
