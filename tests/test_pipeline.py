import numpy as np
import pytest

from foretell import steps
from foretell.backends.python import PythonModel
from foretell.errors import Broken, Busy, Invalid, Setup
from foretell.pipeline import Pipeline
from foretell.steps import Function, Step
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

X = TensorSpec("x", Datatype.FP32, (2,))
Y = TensorSpec("y", Datatype.FP32, (2,))
ROWS: Arrays = {"x": np.array([[1, 2], [3, 4]], np.float32)}


def doubling() -> PythonModel:
    return PythonModel(Signature((X,), (Y,)), lambda inputs: {"y": inputs["x"].astype(np.float32) * 2})


def add_one(arrays: Arrays) -> Arrays:
    return {name: array.astype(np.float32) + np.float32(1) for name, array in arrays.items()}


def failing(arrays: Arrays) -> Arrays:
    raise RuntimeError("secret: /home/someone")


def test_without_steps_it_is_the_model() -> None:
    pipeline = Pipeline(doubling())
    assert pipeline(ROWS)["y"].tolist() == [[2, 4], [6, 8]]
    assert pipeline.signature == doubling().signature


def test_steps_run_in_order_around_the_model() -> None:
    pipeline = Pipeline(doubling(), [add_one, add_one], [add_one])
    assert pipeline(ROWS)["y"].tolist() == [[7, 9], [11, 13]]


def test_calling_it_is_prepare_forward_finish() -> None:
    pipeline = Pipeline(doubling(), [add_one], [add_one])
    parts = pipeline.finish(pipeline.model.forward(pipeline.prepare(ROWS)))
    assert parts["y"].tolist() == pipeline(ROWS)["y"].tolist()


def test_its_signature_is_what_a_client_sees() -> None:
    to_table = Function(lambda arrays: ROWS, inputs=(TensorSpec("text", Datatype.BYTES),), outputs=(X,))
    to_label = Function(lambda arrays: arrays, outputs=(TensorSpec("label", Datatype.INT64),))
    signature = Pipeline(doubling(), [to_table], [to_label]).signature
    assert str(signature) == "(text BYTES []) -> (label INT64 [])"


def test_a_model_without_a_batch_axis_makes_such_a_pipeline() -> None:
    whole = PythonModel(Signature((X,), (Y,), rows=False), lambda inputs: {"y": inputs["x"]})
    pipeline = Pipeline(whole)
    assert not pipeline.signature.rows
    assert pipeline({"x": ROWS["x"][0]})["y"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("gives", "reason"),
    [
        ((TensorSpec("z", Datatype.FP32, (2,)),), r"the model takes x FP32 \[2\], but its steps give z"),
        ((), "but its steps give nothing"),
        ((TensorSpec("x", Datatype.FP64, (2,)),), r"but its steps give x FP64 \[2\]"),
        ((TensorSpec("x", Datatype.FP32, (3,)),), r"but its steps give x FP32 \[3\]"),
        ((TensorSpec("x", Datatype.FP32, (2, 1)),), r"but its steps give x FP32 \[2, 1\]"),
    ],
)
def test_steps_that_do_not_fit_the_model_are_refused(gives: tuple[TensorSpec, ...], reason: str) -> None:
    with pytest.raises(Setup, match=reason) as refusal:
        Pipeline(doubling(), [Function(add_one, outputs=gives)])
    assert refusal.value.code == "broken_pipeline"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (
            [Function(add_one, outputs=()), Function(failing)],
            [],
            "correct preprocess number 1, add_one, or add a step after it",
        ),
        ([Function(failing), steps.numbers.cast(Datatype.FP64)], [], "correct preprocess number 2, 'numbers.cast', or add"),
        ([], [steps.numbers.softmax(), steps.image.flatten()], "postprocess number 2: step 'image.flatten': it takes"),
        ([steps.image.flatten(), steps.image.crop(1, 1)], [], "preprocess number 2: step 'image.crop': it gives"),
    ],
)
def test_a_step_that_does_not_fit_is_told_by_number_and_name(before: list[Step], after: list[Step], reason: str) -> None:
    with pytest.raises(Setup, match=reason):
        Pipeline(doubling(), before, after)


def test_an_open_length_fits_any() -> None:
    Pipeline(doubling(), [Function(add_one, outputs=(TensorSpec("x", Datatype.FP32, (None,)),))])


def test_bad_input_is_refused_before_any_step() -> None:
    with pytest.raises(Invalid, match="input 'x' is missing"):
        Pipeline(doubling(), [failing]).prepare({"z": ROWS["x"]})


def test_what_the_steps_make_is_checked_against_the_model() -> None:
    pipeline = Pipeline(doubling(), [lambda arrays: {"x": arrays["x"][:, :1]}])
    with pytest.raises(Invalid, match=r"after preprocessing, input 'x' has shape \[2, 1\]") as refusal:
        pipeline.prepare(ROWS)
    assert refusal.value.code == "wrong_shape"


def test_a_model_that_raises_says_nothing_of_its_inside() -> None:
    pipeline = Pipeline(PythonModel(doubling().signature, failing))
    with pytest.raises(Broken) as failure:
        pipeline(ROWS)
    assert failure.value.code == "model_failed"
    assert "secret" not in failure.value.message
    assert isinstance(failure.value.__cause__, RuntimeError)


@pytest.mark.parametrize("where", ["preprocess", "postprocess"])
def test_a_step_that_raises_says_nothing_of_its_inside(where: str) -> None:
    pipeline = Pipeline(doubling(), [failing]) if where == "preprocess" else Pipeline(doubling(), postprocess=[failing])
    with pytest.raises(Broken) as failure:
        pipeline(ROWS)
    assert failure.value.code == "step_failed"
    assert "secret" not in failure.value.message


def test_a_refusal_of_a_step_or_a_model_goes_through_as_it_is() -> None:
    def refusing(arrays: Arrays) -> Arrays:
        raise Busy("queue_full", "the other server is busy")

    with pytest.raises(Busy):
        Pipeline(doubling(), [refusing])(ROWS)
    with pytest.raises(Busy):
        Pipeline(PythonModel(doubling().signature, refusing))(ROWS)


def test_it_is_slow_if_any_step_is() -> None:
    quick = Function(add_one, slow=False)
    assert not Pipeline(doubling(), [quick], [quick]).slow
    assert Pipeline(doubling(), [quick], [add_one]).slow
