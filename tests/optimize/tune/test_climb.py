"""Adding clients for as long as the objective holds, on servers of known cost."""

import pytest

from foretell.bench.figures import Figures
from foretell.errors import Setup
from foretell.optimize.tune.climb import STEPS, climb
from foretell.optimize.tune.objective import Objective


def figures(rate: float, p99_s: float, **more: object) -> Figures:
    latencies = {"p50": p99_s / 2, "p90": p99_s, "p99": p99_s, "p99.9": p99_s}
    return Figures(100, 100, 1.0, rate, latencies, {}, p99_s, p99_s, **more)  # type: ignore[arg-type]


class Batches:
    """A server that answers all its clients in one batch of ``fixed_s + clients * row_s``."""

    def __init__(self, fixed_s: float, row_s: float) -> None:
        self.fixed_s, self.row_s = fixed_s, row_s
        self.loads: list[tuple[int, float]] = []

    def __call__(self, clients: int, seconds: float) -> Figures:
        self.loads.append((clients, seconds))
        took_s = self.fixed_s + clients * self.row_s
        return figures(clients / took_s, took_s)


@pytest.mark.parametrize("first", [1, 4, 40, 300])
@pytest.mark.parametrize(("fixed_s", "row_s"), [(0.005, 0.001), (0.0001, 0.0003), (0.015, 0.0001)])
def test_it_comes_near_the_most_that_meets_the_objective(first: int, fixed_s: float, row_s: float) -> None:
    server, bound_s = Batches(fixed_s, row_s), 0.02
    found = climb(server, Objective("p99", bound_s), 6.0, first)
    most = int((bound_s - fixed_s) / row_s)
    assert found.best is not None
    assert found.tried[found.best].rate >= 0.8 * most / (fixed_s + most * row_s)


def test_the_next_climb_goes_on_from_the_last() -> None:
    server, objective = Batches(0.005, 0.001), Objective("p99", 0.02)
    first = climb(server, objective, 6.0, 4)
    second = climb(server, objective, 6.0, first.shown)
    assert second.tried[second.shown].rate >= first.tried[first.shown].rate
    assert second.tried[second.shown].rate >= 0.97 * 15 / 0.02


def test_all_of_the_time_is_used_and_the_best_gets_what_is_left() -> None:
    server = Batches(0.005, 0.001)
    found = climb(server, Objective("p99", 0.02), 6.0, 4)
    assert sum(seconds for _, seconds in server.loads) == pytest.approx(6.0)
    assert server.loads[-1][0] == found.shown
    assert len(server.loads) <= STEPS


def test_clients_that_bring_nothing_more_are_not_added() -> None:
    def serial(clients: int, seconds: float) -> Figures:
        return figures(100.0, clients * 0.01)

    assert climb(serial, Objective("p99", 10.0), 6.0, 1).best == 1


def test_a_server_that_is_too_slow_for_one_client_is_shown_with_one() -> None:
    found = climb(Batches(0.5, 0.1), Objective("p99", 0.02), 6.0, 16)
    assert found.best is None
    assert found.shown == 1


def test_a_load_with_refusals_does_not_meet_the_objective() -> None:
    assert not Objective("p99", 1.0).met_by(figures(10.0, 0.001, outcomes={"429": 1}))
    assert Objective("p99", 1.0).met_by(figures(10.0, 0.001))


@pytest.mark.parametrize(
    ("text", "percentile", "bound_s"),
    [("p99=20ms", "p99", 0.02), ("p50 <= 500us", "p50", 0.0005), ("p99.9=1.5s", "p99.9", 1.5), ("p90<.5ms", "p90", 0.0005)],
)
def test_an_objective_is_a_percentile_and_a_time(text: str, percentile: str, bound_s: float) -> None:
    found = Objective.parse(text)
    assert found.percentile == percentile
    assert found.bound_s == pytest.approx(bound_s)


@pytest.mark.parametrize(
    "text", ["", "20ms", "p99", "p99=20", "p98=20ms", "p99=0ms", "p99=-1ms", "p99=fastms", "p99=20ms p50=1ms"]
)
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(Setup, match=r"p99=20ms|use one of p50") as refused:
        Objective.parse(text)
    assert refused.value.code == "wrong_objective"
