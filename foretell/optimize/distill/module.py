"""Students of torch: a module of the user's own, or a small default of convolutions; taught, and exported to ONNX."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxscript  # noqa: F401 - the exporter needs it: say so before the work, not after
import torch
import torch.nn.functional as F  # noqa: N812 - its own documentation's name
from torch import nn

from foretell.backends import reading_model
from foretell.errors import Setup
from foretell.evidence.case import Case
from foretell.evidence.measure import size_on_disk
from foretell.optimize.distill.export import with_answers
from foretell.optimize.distill.lesson import Form, Lesson
from foretell.optimize.distill.teaching import Distilling, larger
from foretell.user_code import CURE, load_attribute

BATCH_ROWS = 64
RATE = 3e-3
HINT_SHARE = 0.3
OPSET = 18


def module_student(case: Case, form: Form, distilling: Distilling) -> Callable[[Lesson, Path, Callable[[float], None]], str]:
    """``app.py:Student``: a module, or what makes one without arguments. It takes the inputs in order, and gives [rows, width].

    It may give a second value, its own features [rows, n], for ``hint``. Raises Setup: ``broken_code``, ``larger_student``,
    ``unsupported_graph``.
    """
    torch.manual_seed(distilling.seed)
    with reading_model(distilling.student, CURE, "broken_code"):
        found = load_attribute(distilling.student)
        module = found if isinstance(found, nn.Module) else found() if callable(found) else None
    if not isinstance(module, nn.Module):
        raise Setup("broken_code", f"{distilling.student} is no torch module, nor makes one: {CURE}")
    whole = size_on_disk(case.source)
    size = sum(each.numel() * each.element_size() for each in [*module.parameters(), *module.buffers()])
    if size >= whole:
        raise larger(f"{distilling.student}, with {size:,} bytes of weights,", whole)
    _try(module, form, distilling)
    return _learner(module, distilling, f"{distilling.student}, {size:,} bytes of weights")


def cnn_student(form: Form, parameters: int, distilling: Distilling) -> Callable[[Lesson, Path, Callable[[float], None]], str]:
    """The widest pair of convolutions that so many parameters allow. Raises Setup ``unsupported_graph``, ``wrong_setting``."""
    shape = form.signature.inputs[0].shape
    if len(form.signature.inputs) != 1 or len(shape) not in (2, 3) or min(size or 0 for size in shape[-2:]) < 4:
        raise Setup(
            "unsupported_graph", f"--student cnn is for images [channels, height, width], not {form.signature}: choose mlp"
        )
    torch.manual_seed(distilling.seed)
    made = [Convolutions([size or 0 for size in shape], form.width, width) for width in (4, 8, 12, 16, 24, 32, 48, 64)]
    fitting = [each for each in made if sum(one.numel() for one in each.parameters()) <= parameters]
    if not fitting:
        raise Setup(
            "wrong_setting", f"no student of convolutions has as few as {max(0, parameters):,} parameters: raise --size"
        )
    return _learner(fitting[-1], distilling, f"cnn of {fitting[-1].width} and {2 * fitting[-1].width} filters")


class Convolutions(nn.Module):  # type: ignore[misc]
    """Two convolutions of 3 x 3, each with a pool of 2 x 2 behind it, and a dense layer."""

    def __init__(self, shape: list[int], outputs: int, width: int) -> None:
        super().__init__()
        channels = shape[0] if len(shape) == 3 else 1
        high, wide = shape[-2] // 4, shape[-1] // 4
        self.width = width
        self.shape = [-1, channels, *shape[-2:]]
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.last = nn.Linear(2 * width * high * wide, outputs)

    def forward(self, images: Any) -> Any:
        found = F.max_pool2d(F.relu(self.first(images.reshape(self.shape).float())), 2)
        features = F.max_pool2d(F.relu(self.second(found)), 2).flatten(1)
        return self.last(features), features


def _try(module: Any, form: Form, distilling: Distilling) -> None:
    """Runs two rows of zeros through the student, before the long work."""
    zeros = [torch.zeros(2, *[size or 0 for size in spec.shape], dtype=_dtype(spec)) for spec in form.signature.inputs]
    with reading_model(distilling.student, CURE, "broken_code"), torch.no_grad():
        found = module.eval()(*zeros)
    answers, features = found if isinstance(found, tuple) else (found, None)
    if tuple(answers.shape) not in {(2, form.width), (2,) if form.width == 1 else (2, form.width)}:
        text = f"{distilling.student} gives {list(answers.shape)} for 2 rows, and is to give [2, {form.width}]"
        raise Setup("unsupported_graph", f"{text}: logits for classes, without softmax, or the numbers themselves")
    if distilling.hint is not None and features is None:
        raise Setup(
            "wrong_setting",
            f"{distilling.student} gives no features to match --hint: return (answers, features), or leave it out",
        )


def _dtype(spec: Any) -> Any:
    return torch.from_numpy(np.zeros(0, spec.dtype.numpy)).dtype


def _learner(module: Any, distilling: Distilling, kind: str) -> Callable[[Lesson, Path, Callable[[float], None]], str]:
    def learn(lesson: Lesson, path: Path, say: Callable[[float], None]) -> str:
        torch.manual_seed(distilling.seed)
        scaled = Scaled(module, lesson)
        _teach(scaled, lesson, distilling, say)
        _export(scaled, lesson.form, path)
        return kind

    return learn


class Scaled(nn.Module):  # type: ignore[misc]
    """A student whose answers are numbers learns them standardized; this puts them back."""

    def __init__(self, module: Any, lesson: Lesson) -> None:
        super().__init__()
        shift, stretch = (0.0, 1.0) if lesson.form.classes else (lesson.wanted.mean(axis=0), lesson.wanted.std(axis=0))
        self.module = module
        self.width = lesson.form.width
        self.register_buffer("shift", torch.as_tensor(np.asarray(shift, np.float32)))
        self.register_buffer("stretch", torch.as_tensor(np.maximum(np.asarray(stretch, np.float32), np.float32(1e-12))))

    def parts(self, *inputs: Any) -> tuple[Any, Any]:
        found = self.module(*inputs)
        answers, features = found if isinstance(found, tuple) else (found, None)
        return answers.reshape(-1, self.width), features

    def forward(self, *inputs: Any) -> Any:
        return self.parts(*inputs)[0] * self.stretch + self.shift


def _teach(student: Scaled, lesson: Lesson, distilling: Distilling, say: Callable[[float], None]) -> None:
    rows = [torch.from_numpy(np.array(lesson.rows[spec.name])) for spec in lesson.form.signature.inputs]
    aims = (torch.from_numpy(lesson.wanted.astype(np.float32)) - student.shift) / student.stretch
    hints = None if lesson.hints is None else torch.from_numpy(lesson.hints.astype(np.float32))
    matching = None if hints is None else nn.LazyLinear(hints.shape[1])
    count, total = len(aims), distilling.epochs * -(-len(aims) // BATCH_ROWS)
    student.train()
    if matching is not None:
        matching(student.parts(*[each[:2] for each in rows])[1].flatten(1))
    taught = [*student.parameters(), *(matching.parameters() if matching is not None else ())]
    optimizer = torch.optim.Adam(taught, RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for epoch in range(distilling.epochs):
        say(epoch / distilling.epochs)
        for chosen in torch.randperm(count).split(BATCH_ROWS):
            optimizer.zero_grad()
            answers, features = student.parts(*[each[chosen] for each in rows])
            loss = _loss(answers, aims[chosen], chosen, lesson, distilling)
            if matching is not None and hints is not None:
                loss = loss + HINT_SHARE * F.mse_loss(matching(features.flatten(1)), hints[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
    student.eval()


def _loss(answers: Any, aims: Any, chosen: Any, lesson: Lesson, distilling: Distilling) -> Any:
    if not lesson.form.classes:
        return F.mse_loss(answers, aims)
    heat = distilling.temperature
    given, wanted = _both(answers), _both(aims)
    soft = -((wanted / heat).softmax(1) * (given / heat).log_softmax(1)).sum(1).mean() * heat**2
    known = chosen < (0 if lesson.truth is None else len(lesson.truth))
    if lesson.truth is None or not known.any():
        return soft
    truth = torch.from_numpy(lesson.truth.astype(np.int64))[chosen[known]]
    return (1 - distilling.labels) * soft + distilling.labels * F.cross_entropy(given[known], truth)


def _both(logits: Any) -> Any:
    """One logit, of the second of two classes, as two."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def _export(student: Scaled, form: Form, path: Path) -> None:
    samples = tuple(torch.zeros(2, *[size or 0 for size in spec.shape], dtype=_dtype(spec)) for spec in form.signature.inputs)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), reading_model("the student", "torch.onnx.export must be able to export it"):
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            student,
            samples,
            dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in samples),),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        onnx.save(with_answers(made.model_proto, form), str(path))
