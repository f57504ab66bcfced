"""The record of a journey: its phases are its whole time, and its marks name it in the log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import Late
from foretell.passage import Passage, log_fields, trace_id

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00f067aa0ba902b7"
TIMES = st.floats(1.0, 1e6)


@given(TIMES, *[st.one_of(st.just(0.0), TIMES)] * 3, TIMES)
def test_phases_are_never_negative_and_sum_up_to_the_whole(
    received: float, queued: float, started: float, computed: float, ended: float
) -> None:
    passage = Passage("m", "1", "http", received, queued=queued, started=started, computed=computed, ended=ended)
    phases = passage.phases()
    assert min(phases) >= 0.0
    assert sum(phases) == pytest.approx(max(0.0, passage.total_s), rel=1e-9, abs=1e-9)


@given(st.lists(TIMES, min_size=5, max_size=5).map(sorted))
def test_stamps_in_order_are_the_borders_of_the_phases(times: list[float]) -> None:
    received, queued, started, computed, ended = times
    passage = Passage("m", "1", "http", received, queued=queued, started=started, computed=computed, ended=ended)
    assert passage.phases() == (queued - received, started - queued, computed - started, ended - computed)
    assert (passage.queue_s, passage.compute_s) == (started - queued, computed - started)


@pytest.mark.parametrize(
    ("queued", "started", "phases"),
    [(0.0, 0.0, (9.0, 0.0, 0.0, 0.0)), (12.0, 0.0, (2.0, 7.0, 0.0, 0.0)), (12.0, 15.0, (2.0, 3.0, 4.0, 0.0))],
)
def test_the_phase_that_a_request_ended_in_takes_the_rest(queued: float, started: float, phases: tuple[float, ...]) -> None:
    passage = Passage("m", "1", "http", 10.0, queued=queued, started=started, ended=19.0, error=Late("deadline_passed", "late"))
    assert passage.phases() == phases


def test_a_passage_is_named_by_its_model_and_marks() -> None:
    marks = [(b"x-request-id", b"r-1"), (b"traceparent", b"00-%b-%b-01" % (TRACE, PARENT))]
    passage = Passage("m", "1", "http", 1.0, "inner", marks=marks)
    assert passage.fields() == {"model": "m", "version": "1", "request_id": "r-1", "trace_id": TRACE.decode()}


def test_without_a_request_id_in_front_the_one_inside_names_it() -> None:
    assert log_fields((), "inner") == {"request_id": "inner"}
    assert log_fields(()) == {}


def test_two_traces_are_none() -> None:
    first, second = b"00-%b-%b-01" % (TRACE, PARENT), b"00-%b-%b-01" % (TRACE[::-1], PARENT)
    assert log_fields([(b"traceparent", first), (b"traceparent", second)]) == {}


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        (b"00-%b-%b-01" % (TRACE, PARENT), True),
        (b"00-%b-%b-00" % (TRACE, PARENT), True),
        (b"01-%b-%b-01-what-comes-later" % (TRACE, PARENT), True),
        (b"01-%b-%b-01." % (TRACE, PARENT), False),
        (b"00-%b-%b-01-more" % (TRACE, PARENT), False),
        (b"ff-%b-%b-01" % (TRACE, PARENT), False),
        (b"00-%b-%b-01" % (TRACE.upper(), PARENT), False),
        (b"00-%b-%b-01" % (b"0" * 32, PARENT), False),
        (b"00-%b-%b-01" % (TRACE, b"0" * 16), False),
        (b"00-%b-%b-1" % (TRACE, PARENT), False),
        (b"00-%b-%b-01\n" % (TRACE, PARENT), False),
        (b"00-%b" % TRACE, False),
        (b"", False),
    ],
)
def test_a_trace_is_taken_from_a_valid_traceparent_only(header: bytes, valid: bool) -> None:
    assert trace_id(header) == (TRACE.decode() if valid else None)
