"""One original, rows to judge by, and what is wanted: opened once, then any number of candidates are tried against it."""

import contextlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnxruntime

from foretell.backends import Backend, load_backend
from foretell.errors import Broken, Setup
from foretell.evidence.answers import Reading, Said, choose_reading
from foretell.evidence.blame import blame
from foretell.evidence.data import Data, read_data, split
from foretell.evidence.measure import Figures, Gain, Served, Subject, measure
from foretell.evidence.metrics import AGREEMENT, Metric, Scores, choose_metric, compare
from foretell.evidence.progress import SILENT, Progress
from foretell.evidence.verdict import LEAST_GAIN, Layer, Verdict, Wanted, judge
from foretell.pipeline import Pipeline
from foretell.repository import Repository, open_pipeline
from foretell.tensors import Array, Arrays, Signature

CHUNK_ROWS = 256
MOST_BYTES = 2**30
"""Of rows as the model takes them, held for each part of the data."""
FIT_SHARE = 0.5
BUSY = "the machine was so busy that some times are those of the processor: measure again on a quiet one"


@dataclass(frozen=True)
class Evidence:
    """All that is known of a candidate beside its original. ``how``: what was done, as names and texts."""

    verb: str
    source: str
    data: str
    wanted: Wanted
    how: Mapping[str, str]
    rows: Mapping[str, int]
    scores: Scores
    before: Figures
    after: Figures
    gains: Mapping[str, Gain]
    verdict: Verdict
    machine: Mapping[str, str]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """A candidate to be judged: its file, and what to tell of how it came about."""

    path: Path
    verb: str
    how: Mapping[str, str] = field(default_factory=dict)
    trouble: Sequence[Layer] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Exam:
    """Some rows as the model takes them, and what the original says of them.

    ``truth`` is what the metric compares with: class numbers or values; labels as they came for a function of the user's own.
    """

    rows: Arrays
    truth: Array
    before: Said


@dataclass(frozen=True)
class Case:
    """``fit`` is for calibrating and training, ``test`` for judging: what the model takes, and labels of the same rows.

    ``rehearsal`` and ``exam`` are the same rows, with what the original says of them.
    """

    source: Path
    pipeline: Pipeline
    data: Path
    wanted: Wanted
    fit: Data
    test: Data
    reading: Reading
    metric: Metric
    rehearsal: Exam
    exam: Exam
    remarks: tuple[str, ...] = ()

    @property
    def original(self) -> Backend:
        return self.pipeline.model

    @property
    def signature(self) -> Signature:
        """Of the model itself, without the steps."""
        return self.pipeline.model.signature

    def answers(self, model: Backend, features: Arrays) -> Arrays:
        """The model's own, computed as it is served. Raises Setup ``unsupported_graph`` for a model that fails on the rows."""
        return answers_of(model, features)

    @property
    def truth(self) -> Array:
        """Of the test rows."""
        return self.exam.truth

    @property
    def before(self) -> Said:
        """What the original says of the test rows."""
        return self.exam.before

    def said(self, model: Backend, rows: Arrays | None = None) -> Said:
        """What a model says of some rows, else of the test rows."""
        answers = self.answers(model, self.exam.rows if rows is None else rows)
        return self.reading.read(answers, self.pipeline.finish(answers))

    def score(self, model: Backend) -> Scores:
        """A candidate's answers to the test rows beside the original's; its speed is not looked at."""
        exam = self.exam
        return compare(self.metric, exam.before, self.said(model), exam.truth, own_truth(exam.before))

    def quick_loss(self, model: Backend) -> float:
        """The loss on the rows to fit on, without an interval: for searches, which must not see the test rows."""
        fit = self.rehearsal
        after = self.metric.score(self.said(model, fit.rows), fit.truth)
        return self.metric.loss(self.metric.score(fit.before, fit.truth), after)

    @property
    def allowed_loss(self) -> float:
        """What the budget comes to on the rows to fit on."""
        return self.wanted.budget.allowed(self.metric.score(self.rehearsal.before, self.rehearsal.truth))

    def conclude(self, made: Made, progress: Progress = SILENT) -> Evidence:
        """Measures a candidate beside the original in the same run, and judges it. Raises Setup ``unsupported_graph``."""
        progress.say("answering the test rows")
        with loaded(made.path) as model:
            check_alike(self.signature, model.signature)
            scores = self.score(model)
            subjects = [Subject(self.original, self.source), Subject(model, made.path)]
            figures, gains = measure(subjects, self.test.rows, self.wanted.timing_s, progress)
            mine = {aim: each[1] for aim, each in gains.items()}
            slow = mine[self.wanted.aim].ratio < LEAST_GAIN
            costs = blame(made.path, self.test.rows, self.wanted.aim, Served.of(model)) if slow else ()
        return Evidence(
            verb=made.verb,
            source=self.source.name,
            data=self.data.name,
            wanted=self.wanted,
            how=made.how,
            rows={"fit": len(self.fit), "test": len(self.test)},
            scores=scores,
            before=figures[0],
            after=figures[1],
            gains=mine,
            verdict=judge(scores, mine, self.wanted, made.trouble, costs),
            machine=describe_machine(),
            remarks=(*self.remarks, *made.remarks, *((BUSY,) if any(each.busy for each in figures) else ())),
        )

    def inside(self, share: float = 0.7, seed: int = 0) -> "Case":
        """The same question on the fit rows alone: a search that looks at those never sees the test rows."""
        parts, exams = split(self.fit, share, seed), []
        for part in parts:
            before = self.said(self.original, part.rows)
            exams.append(Exam(part.rows, _truth(self.metric, self.reading, part.labels, before), before))
        return replace(self, fit=parts[0], test=parts[1], rehearsal=exams[0], exam=exams[1])

    def close(self) -> None:
        self.pipeline.close()


def open_case(model: str | Path, data: Path, wanted: Wanted, progress: Progress = SILENT, fit_share: float = FIT_SHARE) -> Case:
    """The model at a path, with the rows to judge it by, all checked before any long work.

    Raises Setup: as ``open_pipeline``, ``read_data`` and ``choose_metric``; ``unusable_rows`` when what the model takes holds
    NaN or infinities, or never changes; and Invalid or Broken for rows that the pipeline refuses.
    """
    progress.say("reading the model and the rows")
    pipeline = open_pipeline(model)
    with contextlib.ExitStack() as on_refusal:
        on_refusal.callback(pipeline.close)
        case = _open(_file_of(model), pipeline, data, wanted, fit_share)
        on_refusal.pop_all()
    return case


@contextlib.contextmanager
def loaded(path: Path) -> Iterator[Backend]:
    """A candidate, closed at the end."""
    model = load_backend(path)
    try:
        yield model
    finally:
        model.close()


def check_alike(before: Signature, after: Signature) -> None:
    """That a candidate can stand in the original's place: the same names and shapes. Raises Setup ``unsupported_graph``."""
    for mine, other in ((before.inputs, after.inputs), (before.outputs, after.outputs)):
        if {spec.name for spec in mine} != {spec.name for spec in other}:
            raise Setup("unsupported_graph", f"the changed model is {after}, it cannot stand in for {before}")


def answers_of(model: Backend, features: Arrays) -> dict[str, Array]:
    """What a model answers to any number of rows, called as the engine calls it. Raises Setup ``unsupported_graph``."""
    served, bare = Served.of(model), Pipeline(model)
    try:
        parts = [bare(part) for part in chunks(features, min(CHUNK_ROWS, served.most_rows))]
    except Broken as error:
        why = " ".join(str(error.__cause__).split())[:300]
        raise Setup("unsupported_graph", f"the model fails on the rows ({why}): correct the rows, or the model") from error
    return concatenated(parts)


def describe_machine() -> dict[str, str]:
    """What the figures depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"processor": name or platform.machine(), "runtime": f"onnxruntime {onnxruntime.__version__}", "threads": "1"}


def _open(source: Path, pipeline: Pipeline, path: Path, wanted: Wanted, fit_share: float) -> Case:
    data = read_data(path, pipeline.signature, wanted.label, wanted.map)
    one, two = split(data, fit_share)
    fit, test = _prepared(pipeline, one), _prepared(pipeline, two)
    remarks = check_features([fit, test])
    answers = [answers_of(pipeline.model, part.rows) for part in (fit, test)]
    asked = None if wanted.metric is None and data.labels is not None else wanted.metric or AGREEMENT
    every = concatenated(answers)
    reading = choose_reading(every, data.labels, asked, class_names(pipeline))
    metric = choose_metric(wanted.metric, reading, data.labels)
    exams = []
    for part, found in zip((fit, test), answers, strict=True):
        before = reading.read(found, pipeline.finish(found))
        exams.append(Exam(part.rows, _truth(metric, reading, part.labels, before), before))
    return Case(source, pipeline, path, wanted, fit, test, reading, metric, exams[0], exams[1], remarks)


def _file_of(model: str | Path) -> Path:
    """The file of a model, or of code."""
    source = Repository([model]).models()[0].sources[-1].path
    return Path(source.rpartition(":")[0] if ".py:" in source else source)


def class_names(pipeline: Pipeline) -> Sequence[str]:
    """The names of the classes by number, if the pipeline has a list of them or a step that does."""
    for names in pipeline.labels.values():
        return names
    found = [getattr(step, "_names", None) for step in pipeline.postprocess]
    known = next((names for names in found if isinstance(names, np.ndarray)), None)
    return () if known is None else [each.decode() for each in known.tolist()]


def _prepared(pipeline: Pipeline, part: Data) -> Data:
    """The part's rows as the model takes them: as many as ``MOST_BYTES`` hold."""
    done: list[Arrays] = []
    size = 0
    for chunk in chunks(part.rows, CHUNK_ROWS):
        done.append(pipeline.prepare(chunk))
        size += sum(array.nbytes for array in done[-1].values())
        if size > MOST_BYTES:
            break
    rows = concatenated(done)
    count = len(next(iter(rows.values())))
    return replace(part.take(slice(0, count)), rows=rows)


def check_features(parts: Sequence[Data]) -> tuple[str, ...]:
    """That what the model takes is finite and changes from row to row. Remarks say what is odd, but no hindrance."""
    remarks = []
    for name in parts[0].rows:
        arrays = [part.rows[name] for part in parts]
        if arrays[0].dtype.kind in "OSUiub":
            continue
        wide = [array.astype(np.float64).reshape(len(array), -1) for array in arrays]
        if not all(np.isfinite(array).all() for array in wide):
            text = f"input {name!r} of the model holds NaN or infinities: fill them, with a table.impute step or in the rows"
            raise Setup("unusable_rows", text)
        low = np.min([array.min(axis=0) for array in wide], axis=0)
        high = np.max([array.max(axis=0) for array in wide], axis=0)
        constant = int((low == high).sum())
        if constant * 2 > len(low):
            text = f"{constant} of the {len(low)} features of input {name!r} have the same value in every row"
            raise Setup("unusable_rows", f"{text}: give rows that look like those of real use")
        if constant:
            remarks.append(f"{constant} of the {len(low)} features of input {name!r} have the same value in every row")
    return tuple(remarks)


def _truth(metric: Metric, reading: Reading, labels: Array | None, before: Said) -> Array:
    if metric.name == AGREEMENT or labels is None:
        return own_truth(before)
    if metric.own:
        return labels
    return reading.encode(labels) if reading.order else labels.astype(np.float64)


def own_truth(said: Said) -> Array:
    """What a model says, for another to be compared with."""
    found = said.classes if said.classes is not None else said.values
    assert found is not None
    return found


def chunks(arrays: Arrays, rows: int) -> Iterator[Arrays]:
    """So many rows at a time."""
    count = len(next(iter(arrays.values())))
    for start in range(0, count, rows):
        yield {name: array[start : start + rows] for name, array in arrays.items()}


def concatenated(parts: Sequence[Arrays]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
