"""docs/metrics.md: its tables have every metric and every field of the log, and nothing else."""

import json
import os
import re
from pathlib import Path

from foretell.board import Board
from foretell.comparison import Comparison
from foretell.errors import Busy
from foretell.observe.metrics import Gauge, Metrics
from foretell.observe.requests import RequestLog
from foretell.passage import Passage
from tests.observe.conftest import OpenLog

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
METRIC = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([\w, ]*?) ?\| .+ \|$", re.MULTILINE)


def full_exposition() -> str:
    """A scrape in which every metric has a series."""
    board = Board.create(1)
    board.slots[0].take(os.getpid())
    metrics = Metrics(lambda: [Gauge("m", "1")], [board.slots[0].counters], 0, board)
    for error in (None, Busy("queue_full", "x")):
        metrics(Passage("m", "1", "http", 1.0, None, 1, 1, 2.0, 3.0, 4.0, 5.0, error))
    metrics.comparisons(Comparison("m", "1", "compared", rows=1))
    return metrics.text().decode()


def test_the_table_of_metrics_has_names_types_and_labels_of_a_scrape() -> None:
    text = full_exposition()
    told = {}
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
        series = re.search(rf"^{name}(?:_bucket)?(?:{{(.*)}})? ", text, re.MULTILINE)
        assert series is not None, name
        told[name] = (kind, set(re.findall(r'(\w+)="', series[1] or "")) - {"le"})
    shown = {name: (kind, set(labels.split(", ")) - {""}) for name, kind, labels in METRIC.findall(PAGE)}
    assert shown == told


def test_the_metrics_of_the_questions_are_in_the_table() -> None:
    known = {name for name, _, _ in METRIC.findall(PAGE)}
    asked = [re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\bforetell_\w+", " ".join(questions()))]
    assert len(asked) > 10
    assert set(asked) <= known


def questions() -> list[str]:
    return re.findall("^```promql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_table_of_log_fields_has_those_of_a_request(open_log: OpenLog) -> None:
    stream = open_log(worker=0, format="json")
    marks = [(b"x-request-id", b"r-1"), (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    RequestLog()(Passage("m", "1", "http", 1.0, None, 1, 1, 2.0, 3.0, 4.0, 5.0, None, False, marks))
    table = PAGE[PAGE.index("| field | in |") :]
    shown = {name for cell in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)}
    assert shown == set(json.loads(stream.getvalue())) | {"error_id", "code", "traceback"}
