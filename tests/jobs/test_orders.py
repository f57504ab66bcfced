"""Orders of jobs over files, and where the answers to rows that are asked once more go."""

import pytest

from foretell.jobs.envelope import pack
from foretell.jobs.job import Job
from foretell.jobs.orders import Orders
from foretell.jobs.places import Places


@pytest.mark.parametrize(
    ("output", "attempt", "again"),
    [
        ("/data/out.csv", 0, "/data/out.retry1.csv"),
        ("/data/out.retry1.csv", 1, "/data/out.retry2.csv"),
        ("/data/v1.2/out", 0, "/data/v1.2/out.retry1/"),
        ("/data/out/", 0, "/data/out.retry1/"),
        ("/data/out.retry1/", 1, "/data/out.retry2/"),
        ("s3://bucket/out.parquet", 0, "s3://bucket/out.retry1.parquet"),
    ],
)
def test_failed_rows_are_answered_beside_the_others(output: str, attempt: int, again: str) -> None:
    order = {"model": "m", "input": "/data/in.csv", "output": output, "attempt": attempt}
    spec = pack({"order": order, "webhook": None})
    result = pack({"failed": 2, "errors": output + ".errors.ndjson"})
    orders = Orders(Places((), ()), lambda name, version: "1")
    assert orders.again(Job("1", "files", spec, 0.0, 0.0, result=result)).output == again
