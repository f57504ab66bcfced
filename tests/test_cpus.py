import os
from pathlib import Path

import pytest

from foretell.cpus import usable_cpus


@pytest.mark.parametrize(
    ("content", "expected"),
    [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("99900000 100000", None), ("nonsense", None)],
)
def test_the_quota_of_the_cgroup_counts(content: str, expected: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert usable_cpus(tmp_path / "cpu.max") == (expected or len(os.sched_getaffinity(0)))


def test_without_a_cgroup_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "none") == len(os.sched_getaffinity(0))
