"""What a person sees: tables without riddles, and plots that say what they show."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from foretell.bench.figures import Figures, summarize
from foretell.bench.load import Samples
from foretell.bench.session import EXAMPLE, Report, Wanted
from foretell.bench.show import draw, show
from foretell.bench.sweep import Step, Sweep


def figures(count: int, *, behind: bool = False) -> Figures:
    samples = Samples(seconds=10.0)
    samples.due.extend(10.0 * each / max(count, 1) for each in range(count))
    samples.took.extend((0.001 + (each if behind else 0)) for each in range(count))
    return summarize(samples, 0.0)


def shown(report: Report) -> str:
    text = io.StringIO()
    show(report, Console(file=text, width=200))
    return text.getvalue()


def of_rate(rate: float, found: Figures) -> Report:
    return Report(Wanted(where="http://127.0.0.1:1", rate=rate), "threat", figures=found)


def of_sweep() -> Report:
    steps = [Step(10.0, figures(100), ""), Step(20.0, figures(200), "p99 is 25.0 ms"), Step(0.05, figures(0), "no good answer")]
    sweep = Sweep(0.02, steps)
    return Report(Wanted(where="http://127.0.0.1:1", slo_s=0.02), "threat", figures=steps[0].figures, sweep=sweep)


def test_a_load_says_which_rate_was_asked_for_and_sent() -> None:
    assert "10.0 good answers/s in 10.0 s, of 12 requests/s asked for (10.0/s fell due)" in shown(of_rate(12.0, figures(100)))


def test_a_server_that_did_not_keep_up_is_told_with_its_backlog_and_what_to_type() -> None:
    text = shown(of_rate(10.0, figures(100, behind=True)))
    assert "the server did not keep up" in text
    assert "100 requests fell due and 10 good answers came; when it ended 90 requests waited" in text
    assert "not to be relied on: the server did not keep up with 10 requests/s; give a lower --rate" in text
    assert "answered well" not in text


def test_what_is_not_known_is_a_dash() -> None:
    text = shown(of_sweep())
    assert "nan" not in text
    assert "0.05" in text


def test_rows_that_were_not_made_up_are_named() -> None:
    report = of_rate(10.0, figures(100))
    report.rows = EXAMPLE
    assert f"rows: {EXAMPLE}" in shown(report)


def drawn(report: Report, folder: Path) -> str:
    pytest.importorskip("matplotlib")
    draw(report, folder / "plot.svg")
    return (folder / "plot.svg").read_text()  # a text is drawn as shapes, beside a comment with its words


def test_a_plot_of_a_sweep_names_the_model_the_bound_and_the_knee(tmp_path: Path) -> None:
    text = drawn(of_sweep(), tmp_path)
    for words in ("foretell bench: threat, p99 within 20 ms", "bound of p99: 20 ms", "knee: 10.0 requests/s"):
        assert f"<!-- {words} -->" in text


def test_a_plot_leaves_out_the_percentiles_of_too_few_requests(tmp_path: Path) -> None:
    text = drawn(of_rate(8.7, figures(100)), tmp_path)
    assert "<!-- p90 -->" in text
    assert "<!-- p99 -->" not in text
    assert "foretell bench: threat, 8.7 requests/s" in text
    assert "times" not in text  # as in 2 x 10^0
