"""Makes the table of docs/optimize.md: five models, each as it is, quantized, pruned, distilled and tuned.

    python benchmarks/optimize.py                       all of it: some half an hour on an idle machine
    python benchmarks/optimize.py digits-mlp diabetes   only these models; the others' figures stay as they were
    python benchmarks/optimize.py --verbs tune          only what is named; again the rest stays

Every figure is that of the verb's own report. Models are written even where they are refused, so that the table can say why.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trained import MODELS, Trained

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "optimize.json"
PAGE = HERE.parent / "docs" / "optimize.md"
PLOT = HERE.parent / "docs" / "optimize.svg"
BEGIN, END = "<!-- The table is made by `python benchmarks/optimize.py`. -->", "<!-- End of the table. -->"
VERBS: Mapping[str, Sequence[str]] = {
    "quantize": ("--for", "throughput"),
    "prune": ("--for", "throughput"),
    "distill": ("--for", "throughput", "--epochs", "20", "--between", "1"),
}
NAMES = {"quantize": "int8", "prune": "pruned", "distill": "distilled"}
OBJECTIVE = "p99=50ms"
Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], help="which models; all of them without a word")
    parser.add_argument("--verbs", default=",".join([*VERBS, "tune"]), help="which verbs, with commas between")
    parser.add_argument("--slo", default=OBJECTIVE, help=f"the objective of tune [{OBJECTIVE}]")
    parser.add_argument("--seconds", help="time of each search of tune [what it needs]")
    wanted = parser.parse_args()
    found: Found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted.models or MODELS:
            _measure(MODELS[name](Path(folder)), wanted, found.setdefault(name, {}))
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    draw(found, PLOT)
    write(found, PAGE)


def _measure(trained: Trained, wanted: argparse.Namespace, into: Found) -> None:
    for verb in wanted.verbs.split(","):
        print(f"{trained.name}: {verb}", flush=True)
        into[verb] = _tuned(trained, wanted.slo, wanted.seconds) if verb == "tune" else _changed(trained, verb)


def _changed(trained: Trained, verb: str) -> Found:
    """The report of a verb that changes the model, or why it did not."""
    target = trained.model.with_name(f"{trained.name}-{verb}.onnx")
    words = [verb, str(trained.model), "-o", str(target), "--data", str(trained.rows), "--force", *VERBS[verb]]
    ended = _run(words)
    report = target.with_suffix(".evidence") / "report.json"
    return json.loads(report.read_text()) if report.exists() else {"refused": _reason(ended)}


def _tuned(trained: Trained, objective: str, seconds: str | None) -> Found:
    folder = trained.model.with_name(f"{trained.name}-tuned")
    words = ["tune", str(trained.model), "--data", str(trained.rows), "--slo", objective]
    words += ["--seconds", seconds] if seconds else []
    ended = _run([*words, "--protocol", "binary", "-o", str(folder)])
    report = folder / "tune.json"
    return json.loads(report.read_text()) if report.exists() else {"refused": _reason(ended)}


def _run(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "foretell", *words], capture_output=True, text=True, check=False)


def _reason(ended: "subprocess.CompletedProcess[str]") -> str:
    told = [line.removeprefix("foretell: ") for line in ended.stderr.splitlines() if line.startswith("foretell: ")]
    return told[-1] if told else f"it ended with {ended.returncode}"


def write(found: Found, page: Path) -> None:
    """Put the table between its marks."""
    shown = [name for name in MODELS if name in found]
    models = f"{len(shown)} models that `benchmarks/trained.py` trains"
    lines = [BEGIN, "", f"On {_processor()}: {models}; one thread. Ratios are to the original in the same run.", ""]
    lines += ["| model | | size | p50, 1 row | rows/s | metric | agreement | |", "|---|---|---:|---:|---:|---|---:|---|"]
    lines += [line for name in shown for line in _lines(name, found[name])]
    lines += ["", f"![Size and speed beside the original]({PLOT.name})", ""]
    tuned = [_tune_line(name, found[name]["tune"]) for name in MODELS if "tune" in found.get(name, {})]
    if tuned:
        lines += ["Served: answers/s of a whole server within the objective, in single requests.", ""]
        lines += ["| model | objective | the defaults | tuned | better | chosen |", "|---|---|---:|---:|---:|---|", *tuned]
    lines += [*([""] if tuned else []), END]
    text = page.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
    page.write_text(before + "\n".join(lines) + after, encoding="utf-8")


def _lines(name: str, verbs: Found) -> list[str]:
    reports = {verb: verbs[verb] for verb in VERBS if verb in verbs}
    measured = [report for report in reports.values() if "before" in report]
    lines = []
    if measured:
        scores, figures = measured[0]["scores"], measured[0]["before"]
        lines.append(_line(name, "original", figures, f"{scores['metric']} {scores['before']:.4g}", "", ""))
    for verb, report in reports.items():
        if "refused" in report:
            lines.append(f"| | {NAMES[verb]} | | | | | | refused: {report['refused']} |")
            continue
        scores = report["scores"]
        told = "" if report["good"] else f"refused: {'; '.join(report['verdict']['reasons'])}"
        metric = f"{scores['after']:.4g} (loss {scores['loss']:+.3g})"
        lines.append(_line("", NAMES[verb], report["after"], metric, f"{scores['agreement']:.4f}", told, report["gains"]))
    return lines


def _line(name: str, form: str, figures: Found, metric: str, agreement: str, told: str, gains: Found | None = None) -> str:
    def times(aim: str) -> str:
        return f" ({gains[aim]['ratio']:.2f} x)" if gains else ""

    size = f"{figures['size_bytes'] / 1e3:,.1f} KB{times('size')}"
    speed = f"{figures['p50_1_s'] * 1e6:,.0f} µs{times('latency')} | {figures['rows_per_s']:,.0f}{times('throughput')}"
    return f"| {name} | {form} | {size} | {speed} | {metric} | {agreement} | {told} |"


def _tune_line(name: str, report: Found) -> str:
    if report.get("final") is None:
        return f"| {name} | | | | | {report.get('refused', report.get('sentence', ''))} |"
    final, objective = report["final"], report["objective"]
    shown = f"{objective['percentile']} within {objective['bound_s'] * 1e3:g} ms"
    default = next(each for each in final["contenders"] if _is(each, report["default"]))
    if report["chosen"] is None:
        return f"| {name} | {shown} | {default['rate']:,.0f} | | | nothing is surely better |"
    chosen = next(each for each in final["contenders"] if _is(each, report["chosen"]))
    ratio, (low, high) = final["ratio"], final["interval"]
    better = f"{ratio:.2f} x ({low:.2f} to {high:.2f})" if None not in (ratio, low, high) else "the defaults do not meet it"
    how = f"{chosen['variant']}, {chosen['workers']} x {chosen['threads']}, {chosen['batch_rows']} rows"
    how += f", waits {chosen['max_wait_s'] * 1e3:g} ms" if chosen["max_wait_s"] else ""
    return f"| {name} | {shown} | {default['rate']:,.0f} | {chosen['rate']:,.0f} | {better} | {how} |"


def _is(contender: Found, candidate: Found) -> bool:
    return all(contender[key] == value for key, value in candidate.items())


def draw(found: Found, path: Path) -> None:
    """How many times smaller and quicker each form is, a group of bars for each model; what is refused is pale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    aims = {"size": "smaller", "latency": "quicker for one row", "throughput": "more rows/s"}
    figure, panels = pyplot.subplots(1, len(aims), figsize=(13, 4), layout="constrained", sharey=True)
    names = [name for name in MODELS if name in found]
    for axes, (aim, title) in zip(panels, aims.items(), strict=True):
        for place, verb in enumerate(VERBS):
            reports = {at: found[name].get(verb, {}) for at, name in enumerate(names)}
            good = {at: each for at, each in reports.items() if "gains" in each}
            bars = axes.barh(
                [at + (place - 1) * 0.27 for at in good],
                [each["gains"][aim]["ratio"] for each in good.values()],
                0.25,
                label=NAMES[verb],
            )
            for bar, report in zip(bars, good.values(), strict=True):
                bar.set_alpha(1.0 if report["good"] else 0.3)
        axes.axvline(1.0, color="grey", linewidth=0.8)
        axes.set(title=f"times {title}", xscale="log", yticks=range(len(names)), yticklabels=names)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="minor", labelsize=7)
    panels[0].invert_yaxis()
    patches = [Patch(color=f"C{place}", label=NAMES[verb]) for place, verb in enumerate(VERBS)]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(VERBS), title="pale: refused")
    figure.savefig(path)
    pyplot.close(figure)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
