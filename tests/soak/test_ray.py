"""`foretell predict --engine ray` through twenty kills; tests/modes/ray/test_ray.py has it through two."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.modes.ray.kills import run_through
from tests.modes.ray.nodes import two_nodes

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'foretell[ray]'"),
    pytest.mark.skipif("SOAK" not in os.environ, reason="tests/modes/ray has the short form: SOAK=1 runs this one"),
]


def test_twenty_machines_and_drivers_that_are_killed_cost_no_row_and_give_none_twice(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with two_nodes(tmp_path / "home") as nodes:
        run_through(tmp_path, nodes, 20)
