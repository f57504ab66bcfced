"""What a request's parameters mean to the engine."""

import pytest

from foretell.engine.parameters import model_parameters, read_parameters, read_priority
from foretell.request import LOW, NORMAL, URGENT


@pytest.mark.parametrize(("sent", "meant"), [(0, NORMAL), (1, URGENT), (2, NORMAL), (3, LOW), (4, LOW), (2**64 - 1, LOW)])
def test_priority_1_is_the_highest_0_the_usual_one_and_more_than_there_are_the_lowest(sent: int, meant: int) -> None:
    assert read_priority({"priority": sent}) == meant


def test_without_a_priority_it_is_the_usual_one() -> None:
    assert read_priority({"timeout": 3}) == NORMAL


def test_a_timeout_may_shorten_what_the_server_allows_and_is_in_microseconds() -> None:
    assert read_parameters({"timeout": 1500}, 30.0) == 0.0015
    assert read_parameters({"timeout": 0}, 30.0) == 30.0


def test_the_servers_own_parameters_do_not_keep_requests_apart() -> None:
    assert model_parameters({"priority": 3, "timeout": 9, "binary_data_output": True, "sequence_id": 4}) is None
    assert model_parameters({"priority": 3, "top": 9}) == {"top": 9}
