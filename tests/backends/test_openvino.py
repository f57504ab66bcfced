import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foretell.backends import Backend, ModelOptions, describe, load_backend
from foretell.errors import Setup, Unavailable
from foretell.tensors import Array
from tests.backends.damaged import survives
from tests.backends.graphs import BY_DATATYPE, build, convolution, identity, linear, save, tensor

NUMBERS = [name for name in BY_DATATYPE if name != "BYTES"]


def load(path: Path | str, **options: Any) -> Backend:
    return load_backend(path, ModelOptions(**options), "openvino")


def floats(array: Array) -> NDArray[np.float64]:
    return array.astype(np.float64)


def intermediate(model: Any, folder: Path, name: str = "model") -> Path:
    """The model in the IR, with its weights in a file beside it."""
    source = save(model, folder / f"{name}.source.onnx")
    target = folder / f"{name}.xml"
    from foretell.backends.openvino import openvino, runtime

    openvino.save_model(runtime().read_model(source), str(target), compress_to_fp16=False)
    return target


@pytest.fixture(params=["ir", "onnx"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Any], Path]:
    if request.param == "ir":
        return lambda model: intermediate(model, tmp_path)
    return lambda model: Path(save(model, tmp_path / "model.onnx"))


def test_it_answers_as_onnxruntime_does(made: Callable[[Any], Path]) -> None:
    model = linear(features=30)
    rows = {"x": np.random.default_rng(0).normal(size=(17, 30)).astype(np.float32)}
    want = load_backend(model.SerializeToString()).forward(rows)["y"]
    assert np.allclose(floats(load(made(model)).forward(rows)["y"]), floats(want), rtol=1e-5, atol=1e-7)


def test_an_ir_is_recognized_by_its_suffix(tmp_path: Path) -> None:
    backend = load_backend(intermediate(linear(), tmp_path))
    assert describe(backend)["format"] == "OpenVINO IR"
    assert describe(backend)["provider"] == "CPU"
    assert describe(backend)["parameters"] == "12"
    assert describe(backend)["operators"] == "MatMul, Softmax"


@pytest.mark.parametrize("name", NUMBERS)
def test_every_datatype_of_numbers_goes_through_unchanged(name: str, tmp_path: Path) -> None:
    backend = load(save(identity(name), tmp_path / "model.onnx"))
    spec = backend.signature.inputs[0]
    assert str(spec.dtype) == name
    given = np.array([[0, 1, 1], [1, 0, 1]], spec.dtype.numpy)
    answer = backend.forward({"x": given})["y"]
    assert answer.dtype == given.dtype
    assert answer.tobytes() == given.tobytes()


def test_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Setup, match="input 'x' is string, which is not served here: serve its ONNX form with the backend onnx"):
        load(save(identity("BYTES"), tmp_path / "model.onnx"))


def test_a_fixed_number_of_rows_is_filled_up(made: Callable[[Any], Path]) -> None:
    model = made(linear(4, features=3))
    rows = {"x": np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)}
    backend = load(model)
    assert backend.signature.rows
    answer = backend.forward(rows)["y"]
    assert answer.shape == (7, 3)
    assert np.allclose(floats(answer[:4]), floats(backend.forward({"x": rows["x"][:4]})["y"]), rtol=1e-6)


def test_axes_of_any_length_stay_open(made: Callable[[Any], Path]) -> None:
    backend = load(made(convolution()))
    assert str(backend.signature) == "(x FP32 [3, ?, ?]) -> (y FP32 [16])"
    for height in (8, 16, 8):
        assert backend.forward({"x": np.ones((2, 3, height, 9), np.float32)})["y"].shape == (2, 16)


def test_rows_that_may_not_be_written_to_and_those_with_gaps_are_read(tmp_path: Path) -> None:
    backend = load(save(linear(), tmp_path / "model.onnx"))
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    want = backend.forward({"x": rows[:, ::2].copy()})["y"]
    rows.flags.writeable = False
    np.testing.assert_array_equal(backend.forward({"x": rows[:, ::2]})["y"], want)


def test_an_answer_stays_as_it_was_while_others_are_computed(tmp_path: Path) -> None:
    backend = load(save(linear(), tmp_path / "model.onnx"))
    first = backend.forward({"x": np.ones((3, 4), np.float32)})["y"]
    before = first.copy()
    backend.forward({"x": np.full((3, 4), 5, np.float32)})
    np.testing.assert_array_equal(first, before)


def test_threads_get_their_own_answers(tmp_path: Path) -> None:
    backend = load(save(identity(), tmp_path / "model.onnx"))
    wrong: list[int] = []

    def ask(number: int) -> None:
        given = np.full((64, 3), number, np.float32)
        wrong.extend(number for _ in range(200) if not (backend.forward({"x": given})["y"] == number).all())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("device", ["AUTO", "MULTI:CPU", "HETERO:CPU"])
def test_the_runtimes_own_choosers_may_be_named(device: str, tmp_path: Path) -> None:
    backend = load(save(linear(), tmp_path / "model.onnx"), providers=(device,))
    assert describe(backend)["provider"] == f"CPU ({device})"
    assert backend.forward({"x": np.ones((2, 4), np.float32)})["y"].shape == (2, 3)


@pytest.mark.parametrize("devices", [("XYZ",), ("XYZ.1",), ("CPU", "XYZ"), ("HETERO:XYZ,CPU",), ("AUTO:XYZ,CPU",)])
def test_a_device_that_is_not_there_is_a_failed_load(devices: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(Setup, match=r"is to run on XYZ.*, but OpenVINO finds .*CPU") as refusal:
        load(save(linear(), tmp_path / "model.onnx"), providers=devices)
    assert refusal.value.code == "wrong_provider"


def test_the_precision_is_single_unless_another_is_asked_for(tmp_path: Path) -> None:
    file = save(linear(), tmp_path / "model.onnx")
    assert load(file, options={"precision": "BF16"}).forward({"x": np.ones((1, 4), np.float32)})["y"].dtype == np.float32
    for options, why in (
        ({"precision": "INT4"}, "takes FP32, BF16, FP16"),
        ({"presision": "FP16"}, "did you mean 'precision'"),
    ):
        with pytest.raises(Setup, match=why) as refusal:
            load(file, options=options)
        assert refusal.value.code == "wrong_setting"


def test_an_output_without_axes_is_measured(tmp_path: Path) -> None:
    from onnx import helper

    model = build([helper.make_node("Identity", ["x"], ["y"])], [tensor("x", ["n", 3])], [tensor("y", None)])
    assert str(load(save(model, tmp_path / "model.onnx")).signature) == "(x FP32 [3]) -> (y FP32 [3])"


def test_xml_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<?xml version='1.0'?><svg/>")
    with pytest.raises(Setup, match=r"does not begin as a \.xml file of openvino does"):
        load_backend(tmp_path / "model.xml")
    with pytest.raises(Setup, match="neither an OpenVINO IR"):
        load(tmp_path / "model.xml")


def test_other_formats_that_the_runtime_reads_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    with pytest.raises(Setup, match="neither an OpenVINO IR"):
        load(tmp_path / "model.tflite")


def test_weights_behind_a_link_are_refused(tmp_path: Path) -> None:
    model = intermediate(linear(), tmp_path)
    weights = model.with_suffix(".bin").rename(tmp_path / "elsewhere.bin")
    model.with_suffix(".bin").symlink_to(weights)
    with pytest.raises(Setup, match="is a symbolic link") as refusal:
        load(model)
    assert refusal.value.code == "outside_folder"


@pytest.mark.parametrize("lost", [".bin", ".xml"])
def test_half_a_file_is_refused_in_one_line(lost: str, tmp_path: Path) -> None:
    model = intermediate(convolution(), tmp_path)
    file = model.with_suffix(lost)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(Setup, match="cannot be loaded") as refusal:
        load(model)
    assert "\n" not in refusal.value.message


def test_no_damaged_file_ends_the_process(tmp_path: Path) -> None:
    survives(intermediate(identity(), tmp_path), tmp_path, count=30)


def test_a_signal_is_handled_after_models_came_and_went(tmp_path: Path) -> None:
    program = f"""
import os, signal
from foretell.backends import ModelOptions, load_backend

heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
file, options = {save(linear(), tmp_path / "model.onnx")!r}, ModelOptions()
old, new = (load_backend(file, options, "openvino") for _ in range(2))
for model in (old, new):
    model.close()
del old, new, model
os.kill(os.getpid(), signal.SIGUSR1)
print(heard)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout.strip()) == (0, "[1]"), run.stderr


def test_nobody_is_told_that_it_is_imported() -> None:
    program = "import sys; import foretell.backends.openvino; print([m for m in sys.modules if m.startswith('openvino_tel')])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"


def test_a_closed_model_says_so(tmp_path: Path) -> None:
    backend = load(save(linear(), tmp_path / "model.onnx"))
    backend.close()
    with pytest.raises(Unavailable, match="the model is closed"):
        backend.forward({"x": np.ones((1, 4), np.float32)})
