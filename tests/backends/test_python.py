import os
import sys
from pathlib import Path

import numpy as np
import pytest

from foretell.backends import Backend, ModelOptions, load_backend
from foretell.backends.python import PythonModel, model
from foretell.errors import Broken, Setup
from foretell.tensors import Arrays, Datatype, TensorSpec

CLASS = """
import numpy as np
from foretell import Signature, TensorSpec
from helper_of_app import FACTOR

class Scale:
    closed = 0

    def __init__(self, by=FACTOR):
        self.by = by
        self.signature = Signature((TensorSpec.parse("x", "FP32[2]"),), (TensorSpec.parse("y", "FP32[2]"),))

    def forward(self, inputs):
        return {"y": inputs["x"] * np.float32(self.by)}

    def close(self):
        Scale.closed += 1

scale = Scale()
number = 3

def plain(inputs):
    return inputs
"""
ROWS: Arrays = {"x": np.ones((3, 2), np.float32)}


@pytest.fixture
def app(tmp_path: Path) -> str:
    (tmp_path / "app.py").write_text(CLASS)
    (tmp_path / "helper_of_app.py").write_text("FACTOR = 2\n")
    return str(tmp_path / "app.py")


def doubling(**changes: Arrays) -> PythonModel:
    """A model of two outputs, with the answers as changed."""

    @model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]", "s": "FP32"})
    def double(inputs: Arrays) -> Arrays:
        x = inputs["x"].astype(np.float32)
        return changes["answers"] if changes else {"y": x * 2, "s": x.sum(axis=1)}

    return double


def test_a_decorated_function_is_a_backend_and_stays_callable() -> None:
    backend: Backend = doubling()
    assert str(backend.signature) == "(x FP32 [2]) -> (y FP32 [2], s FP32 [])"
    assert backend.forward(ROWS)["y"].tolist() == [[2, 2]] * 3
    assert doubling()(ROWS)["s"].tolist() == [2, 2, 2]


def test_specs_are_read_as_people_write_them() -> None:
    made = model(inputs={"a": "UINT8[?, ?, 3]", "b": "BYTES"}, outputs={"c": "FP64[2]"}, rows=False)(lambda inputs: inputs)
    assert made.signature.inputs == (TensorSpec("a", Datatype.UINT8, (None, None, 3)), TensorSpec("b", Datatype.BYTES))
    assert not made.signature.rows


def test_a_spec_that_is_none_is_refused() -> None:
    with pytest.raises(Setup, match="'float32' does not describe tensor 'x': write it like"):
        model(inputs={"x": "float32"}, outputs={})


Y, S = np.ones((3, 2), np.float32), np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"y": Y}, "has an output 's', its answer has none"),
        ({"y": Y, "s": S, "z": S}, r"outputs that its signature does not have: \['z'\]"),
        ({"y": Y, "s": S.astype(np.float64)}, "output 's' is declared as FP32, the model gave float64"),
        ({"y": Y[:, :1], "s": S}, r"output 'y' is declared as \[3, 2\], the model gave \[3, 1\]"),
        ({"y": Y[:2], "s": S}, r"output 'y' is declared as \[3, 2\], the model gave \[2, 2\]"),
    ],
)
def test_an_answer_that_is_not_as_declared_is_named(answers: Arrays, reason: str) -> None:
    with pytest.raises(Broken, match=reason) as failure:
        doubling(answers=answers).forward(ROWS)
    assert failure.value.code == "wrong_output"


def test_a_class_is_made_with_its_options(app: str) -> None:
    assert load_backend(f"{app}:Scale").forward(ROWS)["y"].tolist() == [[2, 2]] * 3
    assert load_backend(f"{app}:Scale", ModelOptions(options={"by": 5})).forward(ROWS)["y"].tolist() == [[5, 5]] * 3


def test_an_instance_is_taken_as_it_is(app: str) -> None:
    assert load_backend(f"{app}:scale").forward(ROWS)["y"].tolist() == [[2, 2]] * 3


def test_the_codes_own_close_is_called_once(app: str) -> None:
    from foretell.user_code import load_attribute

    backend = load_backend(f"{app}:scale")
    backend.close()
    backend.close()
    assert getattr(load_attribute(f"{app}:Scale"), "closed") == 1  # noqa: B009 - the class is not known here


@pytest.mark.parametrize(
    ("attribute", "options", "code", "reason"),
    [
        ("Scale", {"bye": 1}, "broken_code", "TypeError: .*bye"),
        ("scale", {"by": 1}, "wrong_setting", r"only a class takes \[model\] options, remove \['by'\]"),
        ("scael", {}, "broken_code", "no attribute 'scael': did you mean 'scale'"),
        ("number", {}, "broken_code", "is of type int, not a model"),
        ("plain", {}, "broken_code", "a function without a signature, not a model: decorate"),
    ],
)
def test_what_is_no_model_says_what_to_write(
    app: str, attribute: str, options: dict[str, object], code: str, reason: str
) -> None:
    with pytest.raises(Setup, match=reason) as refusal:
        load_backend(f"{app}:{attribute}", ModelOptions(options=options))
    assert refusal.value.code == code
    assert app in refusal.value.message


def test_a_runtime_that_reads_no_options_says_which_do() -> None:
    with pytest.raises(Setup, match=r"'onnx' takes no \[model.options\] .*: remove hot") as refusal:
        load_backend(b"", ModelOptions(options={"hot": 1}), backend="onnx")
    assert refusal.value.code == "wrong_setting"


def test_code_without_an_attribute_says_how_to_name_one(app: str) -> None:
    with pytest.raises(Setup, match=r"is code, not a model: name what to serve in it, as .*app\.py:pipeline"):
        load_backend(app)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit('stop')", "SystemExit: stop"),
    ],
)
def test_an_error_in_the_code_names_file_and_exception(code: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(code)
    with pytest.raises(Setup, match=reason) as refusal:
        load_backend(f"{file}:model")
    assert refusal.value.code == "broken_code"
    assert str(file) in refusal.value.message
    assert refusal.value.__cause__ is not None


def test_files_of_the_same_name_are_not_mixed_up(tmp_path: Path) -> None:
    for folder, factor in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "app.py").write_text(CLASS.replace("from helper_of_app import FACTOR", f"FACTOR = {factor}"))
    answers = [load_backend(f"{tmp_path / folder / 'app.py'}:Scale").forward(ROWS)["y"][0, 0] for folder in "ab"]
    assert answers == [3, 4]


def test_an_edited_file_is_read_again(app: str) -> None:
    load_backend(f"{app}:Scale")
    Path(app).write_text(CLASS.replace("self.by = by", "self.by = by + 100"))
    assert load_backend(f"{app}:Scale").forward(ROWS)["y"][0, 0] == 102


def test_an_edit_within_the_same_second_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "app.py"
    for moment, factor in enumerate((2, 3)):
        file.write_text(CODE_OF_FACTOR.replace("FACTOR", str(factor)))
        os.utime(file, ns=(10**18 + moment, 10**18 + moment))
        answer = load_backend(f"{file}:double").forward({"x": np.ones((1, 1), np.float32)})
        assert answer["y"].tolist() == [[factor]]


CODE_OF_FACTOR = """
import foretell

@foretell.model(inputs={"x": "FP32[1]"}, outputs={"y": "FP32[1]"})
def double(inputs):
    return {"y": inputs["x"] * inputs["x"].dtype.type(FACTOR)}
"""
