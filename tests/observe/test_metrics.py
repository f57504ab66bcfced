"""One set of numbers, told as Prometheus text and as the protocol's statistics, right over many workers."""

import os
import re
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.board import Board, SlotState
from foretell.comparison import Comparison
from foretell.errors import Broken, Busy, Cancelled, ForetellError, Invalid, Late
from foretell.observe.metrics import Gauge, Metrics
from foretell.observe.metrics.counts import MODEL_SIZE, MOST_CODES
from foretell.passage import Passage
from foretell.pipeline import Pipeline
from foretell.testing import FakeBackend, InProcess

LABELS = 'model="m",version="1"'
LOADED = [Gauge("m", "1")]


def passage_of(
    rows: int = 1, batch_rows: int = 1, *, started: float = 10.3, error: ForetellError | None = None, model: str = "m"
) -> Passage:
    """Received at 10.0 s, queued 0.1 later, computed in 0.2, ended 0.1 after that."""
    computed = started + 0.2
    return Passage(model, "1", "http", 10.0, None, rows, batch_rows, 10.1, started, computed, computed + 0.1, error)


def value(metrics: Metrics, series: str) -> float:
    found = find(metrics, series)
    assert found is not None, series
    return found


def find(metrics: Metrics, series: str) -> float | None:
    match = re.search(rf"^{re.escape(series)} (\S+)$", metrics.text().decode(), re.MULTILINE)
    return None if match is None else float(match[1])


def regions(count: int) -> list[memoryview]:
    return [memoryview(bytearray(2**16)) for _ in range(count)]


def test_requests_are_counted_by_outcome_and_rows_by_success() -> None:
    metrics = Metrics()
    metrics(passage_of(rows=3))
    metrics(passage_of(error=Invalid("wrong_shape", "no")))
    assert value(metrics, 'foretell_requests_total{model="m",outcome="ok",version="1"}') == 1
    assert value(metrics, 'foretell_requests_total{model="m",outcome="wrong_shape",version="1"}') == 1
    assert value(metrics, f"foretell_rows_total{{{LABELS}}}") == 3


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (None, "accepted"),
        (Broken("model_failed", "x"), "accepted"),
        (Busy("queue_full", "x"), "rejected"),
        (Invalid("a_code_of_somebodys_own", "x"), "rejected"),
        (Late("deadline_passed", "x"), "expired"),
        (Cancelled("cancelled", "x"), "cancelled"),
    ],
)
def test_every_request_has_one_fate(error: ForetellError | None, fate: str) -> None:
    metrics = Metrics()
    metrics(passage_of(error=error))
    told = {each: value(metrics, f'foretell_request_fates_total{{fate="{each}",{LABELS}}}') for each in FATES}
    assert told == {each: float(each == fate) for each in FATES}


FATES = ("accepted", "rejected", "expired", "cancelled")


def test_histograms_are_cumulative_and_sum_up() -> None:
    metrics = Metrics()
    metrics(passage_of())
    assert value(metrics, f'foretell_compute_seconds_bucket{{le="0.1",{LABELS}}}') == 0
    assert value(metrics, f'foretell_compute_seconds_bucket{{le="0.25",{LABELS}}}') == 1
    assert value(metrics, f'foretell_compute_seconds_bucket{{le="+Inf",{LABELS}}}') == 1
    assert value(metrics, f"foretell_request_seconds_sum{{{LABELS}}}") == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("rows", "bucket", "below"), [(1, "1.0", "0"), (64, "64.0", "32.0"), (300, "512.0", "256.0"), (5000, "+Inf", "4096.0")]
)
def test_a_forward_is_counted_by_its_rows(rows: int, bucket: str, below: str) -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics(passage_of(batch_rows=rows))
    assert value(metrics, f'foretell_batch_rows_bucket{{le="{bucket}",{LABELS}}}') == 1
    assert find(metrics, f'foretell_batch_rows_bucket{{le="{below}",{LABELS}}}') in (0, None)
    assert value(metrics, f"foretell_batch_rows_sum{{{LABELS}}}") == rows
    assert value(metrics, f"foretell_forwards_total{{{LABELS}}}") == 1


def test_gauges_are_asked_at_each_scrape() -> None:
    waiting = [5.0]
    metrics = Metrics(lambda: [Gauge("m", "1", queue_rows=waiting[0], in_flight=2.0)])
    assert value(metrics, f"foretell_queue_rows{{{LABELS}}}") == 5
    waiting[0] = 7.0
    assert value(metrics, f"foretell_queue_rows{{{LABELS}}}") == 7


def test_statistics_sum_the_phases_and_count_forwards_once() -> None:
    metrics = Metrics()
    for started in (10.3, 10.3, 11.0):
        metrics(passage_of(rows=2, batch_rows=4, started=started))
    stats = metrics.statistics("m", "1")
    assert (stats["inference_count"], stats["execution_count"]) == (6, 2)
    assert stats["inference_stats"]["success"]["count"] == 3
    assert stats["inference_stats"]["compute_infer"] == {"count": 3, "ns": 600_000_000}
    [batch] = stats["batch_stats"]
    assert (batch["batch_size"], batch["compute_output"]) == (4, {"count": 3, "ns": 300_000_000})


def test_a_model_that_was_never_asked_has_zeros() -> None:
    stats = Metrics().statistics("m", "1")
    assert (stats["inference_count"], stats["last_inference"], stats["batch_stats"]) == (0, 0, [])


def test_an_answer_that_was_kept_is_a_hit_and_no_forward() -> None:
    metrics = Metrics()
    kept, missed = passage_of(rows=2), passage_of(rows=2)
    kept.cached, missed.cached = True, False
    metrics(kept)
    metrics(missed)
    stats = metrics.statistics("m", "1")
    assert (stats["inference_count"], stats["execution_count"]) == (2, 1)
    shown = {name: stats["inference_stats"][name]["count"] for name in ("success", "cache_hit", "cache_miss", "compute_infer")}
    assert shown == {"success": 2, "cache_hit": 1, "cache_miss": 1, "compute_infer": 1}
    assert value(metrics, f"foretell_cache_hits_total{{{LABELS}}}") == 1
    assert value(metrics, f"nv_cache_num_misses_per_model{{{LABELS}}}") == 1


TIMES = st.floats(0.001, 100.0)
ERRORS = st.sampled_from([None, None, None, Busy("queue_full", "x"), Late("deadline_passed", "x"), Broken("model_failed", "x")])


@st.composite
def passages(draw: st.DrawFn) -> Passage:
    """Any that an engine can conclude: it ended after it was received, and what it reached it reached at any time."""
    received, ended = sorted(draw(st.tuples(TIMES, TIMES)))
    queued, started, computed = draw(st.tuples(*[st.one_of(st.just(0.0), TIMES)] * 3))
    rows, error, cached = draw(st.integers(1, 300)), draw(ERRORS), draw(st.sampled_from([None, True, False]))
    return Passage("m", "1", "http", received, None, rows, rows, queued, started, computed, ended, error, cached)


@settings(max_examples=50)
@given(st.lists(passages(), min_size=1, max_size=30))
def test_phases_add_up_to_the_total_and_outcomes_to_what_came(ended: list[Passage]) -> None:
    metrics = Metrics()
    for passage in ended:
        metrics(passage)
    whole_s = sum(passage.total_s for passage in ended)
    phases = [f"foretell_{name}{{{LABELS}}}" for name in PHASES]
    assert sum(value(metrics, phase) for phase in phases) == pytest.approx(whole_s, rel=1e-6, abs=1e-9)
    assert value(metrics, f"foretell_request_seconds_sum{{{LABELS}}}") == pytest.approx(whole_s, rel=1e-6, abs=1e-9)
    assert value(metrics, f"foretell_request_seconds_count{{{LABELS}}}") == len(ended)
    assert sum(value(metrics, f'foretell_request_fates_total{{fate="{fate}",{LABELS}}}') for fate in FATES) == len(ended)
    stats = metrics.statistics("m", "1")["inference_stats"]
    parts = ("queue", "compute_input", "compute_infer", "compute_output", "cache_hit")
    assert sum(stats[part]["ns"] for part in parts) == pytest.approx(stats["success"]["ns"], rel=1e-6, abs=5)
    assert stats["success"]["count"] + stats["fail"]["count"] == len(ended)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(TIMES, TIMES, st.integers(1, 9), st.sampled_from([None, None, True, False])), min_size=1, max_size=40),
    st.tuples(TIMES, TIMES, TIMES),
    st.sampled_from([1.0, 1e-5]),
)
def test_passages_that_one_call_answered_count_together_as_one_by_one(
    came: list[tuple[float, float, int, bool | None]], after: tuple[float, float, float], scale: float
) -> None:
    started, computed, ended = (each * scale for each in sorted(after))
    call = [
        Passage("m", "1", "http", first * scale, None, rows, 40, second * scale, started, computed, ended, None, cached)
        for first, second, rows, cached in came
    ]
    together, one_by_one = Metrics(), Metrics()
    together.see_all(call)
    for passage in call:
        one_by_one(passage)
    ours, theirs = together.look().models["m", "1"], one_by_one.look().models["m", "1"]
    assert ours.numbers == pytest.approx(theirs.numbers, rel=1e-9, abs=1e-9)
    assert ours.batches.keys() == theirs.batches.keys()
    for size, batch in ours.batches.items():
        assert batch == pytest.approx(theirs.batches[size], rel=1e-9, abs=1e-9)


PHASES = ("input_seconds_total", "queue_seconds_sum", "compute_seconds_sum", "output_seconds_total")


def test_dashboards_for_triton_find_the_names_that_they_know() -> None:
    metrics = Metrics(lambda: [Gauge("m", "1", queue_requests=4)])
    metrics(passage_of(rows=3, batch_rows=8))
    metrics(passage_of(error=Late("deadline_passed", "x")))
    told = {name: value(metrics, f"{name}{{{LABELS}}}") for name in TRITON}
    assert told == pytest.approx(TRITON)
    assert value(metrics, f'nv_inference_request_failure{{{LABELS},reason="REJECTED"}}') == 1
    assert re.search(r"^# TYPE nv_inference_count counter$", metrics.text().decode(), re.MULTILINE)


TRITON = {
    "nv_inference_request_success": 1,
    "nv_inference_count": 3,
    "nv_inference_exec_count": 1,
    "nv_inference_pending_request_count": 4,
    "nv_inference_request_duration_us": 600_000,
    "nv_inference_queue_duration_us": 200_000,
    "nv_inference_compute_input_duration_us": 100_000,
    "nv_inference_compute_infer_duration_us": 200_000,
    "nv_inference_compute_output_duration_us": 100_000,
}


def test_a_model_has_series_while_it_is_loaded_and_its_numbers_come_back_with_it() -> None:
    loaded = LOADED
    metrics = Metrics(lambda: loaded)
    metrics(passage_of())
    metrics(passage_of(model="never loaded"))
    assert "never loaded" not in metrics.text().decode()
    loaded = []
    assert LABELS not in metrics.text().decode()
    loaded = LOADED
    metrics(passage_of())
    assert value(metrics, f'foretell_requests_total{{model="m",outcome="ok",{LABELS.split(",")[1]}}}') == 2


def test_ten_thousand_unknown_models_add_no_series() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        client.predict({"x": [1, 2]})
        before = client.request("GET", "/metrics").body
        for number in range(10_000):
            assert client.request("POST", f"/v2/models/unknown-{number}/infer", b"{}").status == 404
        after = client.request("GET", "/metrics").body
    assert series(after) == series(before)


def series(text: bytes) -> set[str]:
    return set(re.findall(r"^\w+(?:\{.*\})?(?= )", text.decode(), re.MULTILINE))


# -- many workers


def test_every_worker_tells_the_sum_of_all() -> None:
    shared = regions(2)
    workers = [Metrics(None, shared, number) for number in range(2)]
    workers[0](passage_of(rows=2, batch_rows=2))
    workers[1](passage_of(rows=3, batch_rows=3, started=12.0))
    workers[1](passage_of(error=Busy("queue_full", "x")))
    for worker in workers:
        assert value(worker, f"foretell_rows_total{{{LABELS}}}") == 5
        assert value(worker, f"foretell_request_seconds_count{{{LABELS}}}") == 3
        assert worker.statistics("m", "1")["execution_count"] == 2
    assert workers[0].statistics("m", "1") == workers[1].statistics("m", "1")


def test_a_worker_that_takes_the_place_of_another_goes_on_with_its_numbers() -> None:
    shared = regions(1)
    for _ in range(3):
        worker = Metrics(None, shared, 0)
        worker(passage_of(rows=2))
        worker(passage_of(error=Busy("queue_full", "x")))
    assert value(worker, f"foretell_rows_total{{{LABELS}}}") == 6
    assert value(worker, 'foretell_requests_total{model="m",outcome="queue_full",version="1"}') == 3


def test_gauges_are_the_sum_of_those_who_live() -> None:
    board = Board.create(2)
    workers = []
    for slot in board.slots:
        slot.take(os.getpid())
        workers.append(worker_at(board, slot.number, [Gauge("m", "1", in_flight=slot.number + 1.0)]))
        workers[-1].publish()
    assert value(workers[0], f"foretell_in_flight_requests{{{LABELS}}}") == 3
    board.slots[1].leave(SlotState.GONE)
    assert value(workers[0], f"foretell_in_flight_requests{{{LABELS}}}") == 1
    board.slots[1].take(os.getpid())
    worker_at(board, 1, [])
    assert value(workers[0], f"foretell_in_flight_requests{{{LABELS}}}") == 1


def worker_at(board: Board, number: int, gauges: Iterable[Gauge]) -> Metrics:
    return Metrics(lambda: gauges, [slot.counters for slot in board.slots], number, board)


def test_a_model_that_only_another_worker_has_loaded_has_series_until_it_takes_it_back() -> None:
    loaded: Sequence[Gauge] = LOADED
    shared = regions(2)
    asked, other = Metrics(lambda: (), shared, 0), Metrics(lambda: loaded, shared, 1)
    other(passage_of())
    assert find(asked, f"foretell_rows_total{{{LABELS}}}") is None
    other.publish()
    assert find(asked, f"foretell_rows_total{{{LABELS}}}") == 1
    loaded = ()
    other.publish()
    assert find(asked, f"foretell_rows_total{{{LABELS}}}") is None


def test_the_workers_are_told_of_by_state_memory_and_restarts() -> None:
    board = Board.create(3)
    board.slots[0].take(os.getpid())
    board.slots[0].state = SlotState.READY
    board.slots[0].connections = 7
    board.slots[1].leave(SlotState.FAILED)
    board.count_restart()
    metrics = worker_at(board, 0, ())
    assert value(metrics, 'foretell_workers{state="ready"}') == 1
    assert value(metrics, 'foretell_workers{state="failed"}') == 1
    assert value(metrics, 'foretell_workers{state="starting"}') == 0
    assert value(metrics, "foretell_worker_restarts_total") == 1
    assert value(metrics, "foretell_connections") == 7
    assert value(metrics, 'process_resident_memory_bytes{worker="0"}') > 2**20
    assert find(metrics, 'process_resident_memory_bytes{worker="1"}') is None


# -- without room


def test_without_room_for_a_model_its_requests_are_counted_all_the_same() -> None:
    metrics = Metrics(None, [memoryview(bytearray(8 * (MODEL_SIZE + 20)))])
    metrics(passage_of())
    metrics(passage_of(error=Busy("queue_full", "x")))
    assert value(metrics, "foretell_overflow_requests_total") == 2
    assert value(metrics, "foretell_overflow_series_total") > 0
    assert LABELS not in metrics.text().decode()


def test_without_room_for_a_batch_or_a_code_the_model_still_counts_it() -> None:
    metrics = Metrics(None, [memoryview(bytearray(8 * (2 * MODEL_SIZE + 12)))])
    metrics(passage_of(rows=2, batch_rows=3))
    metrics(passage_of(error=Busy("queue_full", "x")))
    metrics(passage_of(error=Late("deadline_passed", "x")))
    assert value(metrics, f"foretell_rows_total{{{LABELS}}}") == 2
    assert value(metrics, f'foretell_batch_rows_bucket{{le="+Inf",{LABELS}}}') == 1
    assert value(metrics, 'foretell_requests_total{model="m",outcome="other",version="1"}') == 2
    assert value(metrics, f'foretell_request_fates_total{{fate="expired",{LABELS}}}') == 1


def test_a_region_too_small_for_anything_stops_no_request() -> None:
    metrics = Metrics(None, [memoryview(bytearray(64))])
    metrics(passage_of())
    assert value(metrics, "foretell_overflow_series_total") > 0


def test_codes_that_somebody_makes_up_are_bounded() -> None:
    metrics = Metrics()
    for number in range(10 * MOST_CODES):
        metrics(passage_of(error=Invalid(f"code-{number}", "x")))
    told = re.findall(r'^foretell_requests_total\{.*outcome="(.*?)".*\} (\S+)$', metrics.text().decode(), re.MULTILINE)
    assert len(told) == MOST_CODES + 2
    assert dict(told)["other"] == str(9.0 * MOST_CODES)


@given(st.binary(min_size=16, max_size=600))
def test_a_region_of_garbage_never_fails_a_scrape(garbage: bytes) -> None:
    own, other = memoryview(bytearray(2**14)), memoryview(bytearray(garbage))
    metrics = Metrics(None, [own, other], 0)
    metrics(passage_of())
    assert value(metrics, f"foretell_rows_total{{{LABELS}}}") >= 1
    assert metrics.statistics("m", "1")["inference_count"] >= 1


# -- numbers of others


def test_a_counter_of_somebodys_own_is_summed_and_told_with_its_model() -> None:
    shared = regions(2)
    for number in range(2):
        counter = (metrics := Metrics(lambda: LOADED, shared, number)).counter(
            "foretell_things", "Things.", ("model", "version")
        )
        counter.add(("m", "1"), 1.5)
        counter.add(("gone", "1"))
    assert value(metrics, f"foretell_things_total{{{LABELS}}}") == 3
    assert "gone" not in metrics.text().decode()


def test_comparisons_with_a_shadow_are_summed_up_and_the_largest_difference_is_kept() -> None:
    shared = regions(2)
    for number, largest in enumerate((0.5, 0.25)):
        metrics = Metrics(None, shared, number)
        metrics.comparisons(Comparison("m", "1", "compared", 10, 3, 1, 20, 0.75, largest))
    metrics.comparisons(Comparison("m", "1", "dropped"))
    told = {name: value(metrics, f"foretell_shadow_{name}{{{LABELS}}}") for name in SHADOW}
    assert told == SHADOW
    assert value(metrics, 'foretell_shadow_requests_total{model="m",outcome="compared",version="1"}') == 2


SHADOW = {
    "rows_total": 20,
    "differing_rows_total": 6,
    "deciding_rows_total": 2,
    "values_total": 40,
    "difference_total": 1.5,
    "largest_difference": 0.5,
}
