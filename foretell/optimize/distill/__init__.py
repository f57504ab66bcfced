"""``foretell distill``: a small new model learns what a large one answers."""

from collections.abc import Callable
from pathlib import Path

from foretell.errors import Setup
from foretell.evidence.case import Case, Evidence, Made, open_case
from foretell.evidence.progress import SILENT, Progress
from foretell.evidence.publish import carry_out, check_target
from foretell.evidence.verdict import Wanted
from foretell.optimize.distill.lesson import Form, Lesson, form_of, learn_from, with_hints
from foretell.optimize.distill.teaching import DEFAULTS, Distilling, bytes_of
from foretell.plugins import did_you_mean, needs_extra

FIT_SHARE = 0.7
FILE_BYTES = 1500
"""What an ONNX file of a small network has besides its weights."""

Student = Callable[[Lesson, Path, Callable[[float], None]], str]
"""Learns a lesson, writes itself as ONNX to a path, and says what it is."""


def distill(
    teacher: str | Path,
    data: Path,
    target: Path,
    options: Distilling = DEFAULTS,
    wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    progress: Progress = SILENT,
    tell: Callable[[Evidence], None] = lambda evidence: None,
) -> Evidence:
    """A student of ``teacher`` as ONNX at ``target``, with its report beside it, if it is good enough; else nothing.

    ``tell`` is shown the evidence whatever the verdict. Raises Setup before the long work: as ``open_case`` and
    ``check_target``; ``larger_student``, ``wrong_setting``, ``unsupported_graph`` for a teacher whose inputs or outputs no
    student has, ``missing_extra``; and ``not_better`` after it.
    """
    _check(options)
    check_target(Path(teacher), target)
    case = open_case(teacher, data, wanted, progress, FIT_SHARE)
    return carry_out(case, target, lambda place: distill_case(case, place, options, progress), tell)


def distill_case(case: Case, target: Path, options: Distilling, progress: Progress = SILENT) -> Evidence:
    """Writes the student to ``target`` and judges it."""
    with needs_extra("distilling", "optimize"):
        from foretell.optimize.distill.hint import check_hint, inner_value
    form = form_of(case)
    if options.hint is not None:
        check_hint(case.source, options.hint)
    student = choose_student(case, form, options)
    progress.say("asking the teacher")
    lesson = learn_from(case, form, options.between, options.seed)
    if options.hint is not None:
        lesson = with_hints(lesson, inner_value(case.source, options.hint, lesson.rows))
    kind = student(lesson, target, lambda done: progress.say("teaching the student", done))
    return case.conclude(Made(target, "distill", _how(kind, lesson, options)), progress)


def choose_student(case: Case, form: Form, distilling: Distilling) -> Student:
    """One that is no larger than it may be. Raises Setup: ``larger_student``, ``wrong_setting`` or ``missing_extra``."""
    if ".py:" in distilling.student:
        with needs_extra("a student of torch", "torch,optimize"):
            from foretell.optimize.distill.module import module_student
        return module_student(case, form, distilling)
    make = STUDENTS.get(distilling.student)
    if make is None:
        known = {**STUDENTS, "app.py:Student": None}
        raise Setup("wrong_setting", f"there is no student {distilling.student!r}{did_you_mean(distilling.student, known)}")
    return make(form, bytes_of(distilling.size, case.source), distilling)


def _mlp(form: Form, size_bytes: int, distilling: Distilling) -> Student:
    import onnx

    from foretell.optimize.distill.export import dense_model
    from foretell.optimize.distill.mlp import Teaching, train, width_for

    width = width_for(form.features, form.width, (size_bytes - FILE_BYTES) // 4)
    if width < 1:
        raise too_small(form, size_bytes)
    teaching = Teaching(distilling.temperature, distilling.labels, distilling.epochs, distilling.seed)

    def learn(lesson: Lesson, path: Path, say: Callable[[float], None]) -> str:
        onnx.save(dense_model(train(lesson, width, teaching, say), form), str(path))
        return f"mlp with two hidden layers of {width}"

    return learn


def _trees(form: Form, size_bytes: int, distilling: Distilling) -> Student:
    import onnx

    from foretell.optimize.distill.export import forest_model
    from foretell.optimize.distill.trees import train, trees_for

    count = trees_for(form.width, size_bytes - FILE_BYTES)
    if count < 1:
        raise too_small(form, size_bytes)
    if distilling.hint is not None:
        raise Setup("wrong_setting", "trees have no layers that could match --hint: choose --student mlp, or leave it out")

    def learn(lesson: Lesson, path: Path, say: Callable[[float], None]) -> str:
        onnx.save(forest_model(train(lesson, count, distilling.seed, say), form), str(path))
        return f"{count} boosted trees"

    return learn


def _cnn(form: Form, size_bytes: int, distilling: Distilling) -> Student:
    with needs_extra("a student of convolutions", "torch,optimize"):
        from foretell.optimize.distill.module import cnn_student
    return cnn_student(form, (size_bytes - 2 * FILE_BYTES) // 4, distilling)


STUDENTS: dict[str, Callable[[Form, int, Distilling], Student]] = {"mlp": _mlp, "trees": _trees, "cnn": _cnn}


def too_small(form: Form, size_bytes: int) -> Setup:
    text = f"no student with {form.features} features and {form.width} answers fits in {size_bytes:,} bytes"
    return Setup("wrong_setting", f"{text}: raise --size")


def _check(options: Distilling) -> None:
    if not (options.temperature > 0 and 0 <= options.labels <= 1 and options.epochs > 0 and options.between >= 0):
        text = "the temperature is above 0, the share of labels from 0 to 1, epochs at least 1, rows between at least 0"
        raise Setup("wrong_setting", f"{text}: correct {options}")


def _how(kind: str, lesson: Lesson, distilling: Distilling) -> dict[str, str]:
    rows = len(lesson.wanted)
    found = {
        "student": kind,
        "temperature": f"{distilling.temperature:g}",
        "rows learned from": f"{rows:,}",
        "seed": str(distilling.seed),
    }
    if lesson.truth is not None:
        found["share of labels"] = f"{distilling.labels:g}"
    if distilling.hint is not None:
        found["hint"] = distilling.hint
    return found
