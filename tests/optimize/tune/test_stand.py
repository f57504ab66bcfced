"""The stand that candidates are measured on."""

import pytest

from foretell.optimize.tune.stand import run_load
from foretell.testing import FakeClock
from tests.bench.simulated import SimulatedNetwork


def test_an_interrupt_ends_a_load_and_not_only_its_figures() -> None:
    def service_s(at: float) -> float:
        if at > 0.5:
            raise KeyboardInterrupt
        return 0.01

    with pytest.raises(KeyboardInterrupt):
        run_load(SimulatedNetwork(FakeClock(), service_s), 2, 1.0)
