"""The CPUs that may really be used: affinity and quotas, as control groups of version 2 and 1 write them."""

import os
from pathlib import Path

import pytest

from foretell.cpus import Cpus, count_cpus, usable_cpus

AFFINITY = len(os.sched_getaffinity(0))


def count(cgroups: Path, own: str = "") -> Cpus:
    """The CPUs with these folders as control groups, and ``own`` as the list of those that this process is in."""
    (cgroups / "own").write_text(own)
    return count_cpus(cgroups, cgroups / "own")


@pytest.mark.parametrize(
    ("content", "quota"),
    [
        ("50000 100000", 0.5),
        ("100000 100000", 1.0),
        ("250000 100000", 2.5),
        ("max 100000", None),
        ("nonsense", None),
        ("", None),
        ("1 0", None),
    ],
)
def test_the_quota_of_a_container_counts(content: str, quota: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert count(tmp_path, "0::/") == Cpus(AFFINITY, quota)


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("limit", "quota"), [("150000", 1.5), ("-1", None)])
def test_the_quota_of_version_1_counts(limit: str, quota: float | None, folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "cpu.cfs_quota_us").write_text(f"{limit}\n")
    (tmp_path / folder / "cpu.cfs_period_us").write_text("100000\n")
    assert count(tmp_path) == Cpus(AFFINITY, quota)


def test_the_smallest_quota_of_all_groups_above_counts(tmp_path: Path) -> None:
    for path, content in (("a", "100000 100000"), ("a/b", "400000 100000"), ("a/b/c", "max 100000"), ("other", "1000 100000")):
        (tmp_path / path).mkdir()
        (tmp_path / path / "cpu.max").write_text(content)
    assert count(tmp_path, "0::/a/b/c\n").quota == 1.0
    assert count(tmp_path, "0::/a/b/c\n3:memory:/other\n").quota == 1.0


def test_a_group_of_version_1_is_found_by_the_name_of_its_controllers(tmp_path: Path) -> None:
    inner = tmp_path / "cpu,cpuacct" / "inner"
    inner.mkdir(parents=True)
    (inner / "cpu.cfs_quota_us").write_text("200000")
    (inner / "cpu.cfs_period_us").write_text("100000")
    assert count(tmp_path, "4:cpu,cpuacct:/inner\n").quota == 2.0


def test_a_path_out_of_the_groups_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "groups").mkdir()
    (tmp_path / "cpu.max").write_text("1000 100000")
    assert count(tmp_path / "groups", "0::/..\n").quota is None


def test_without_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert count_cpus(tmp_path / "none", tmp_path / "none") == Cpus(AFFINITY)
    assert 1 <= usable_cpus() <= AFFINITY


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"), [(8, None, 8), (8, 2.0, 2), (8, 2.5, 3), (8, 0.1, 1), (2, 16.0, 2), (1, None, 1)]
)
def test_usable_is_the_smaller_of_both_and_at_least_one(affinity: int, quota: float | None, usable: int) -> None:
    assert Cpus(affinity, quota).usable == usable


@pytest.mark.parametrize(("workers", "each"), [(0, 8), (1, 8), (2, 4), (3, 2), (8, 1), (99, 1)])
def test_workers_share_the_cpus_evenly(workers: int, each: int) -> None:
    assert Cpus(8).each(workers) == each


def test_the_budget_is_one_line_for_people() -> None:
    assert Cpus(2).sentence(1, 1) == "CPUs: 2 usable (affinity 2, quota none); 1 worker x 1 thread a forward"
    assert Cpus(8, 3.5).sentence(2, 0) == "CPUs: 4 usable (affinity 8, quota 3.5); 2 workers x 2 threads a forward"
