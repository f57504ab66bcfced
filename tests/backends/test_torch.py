"""Models of PyTorch: what they answer, and that nothing in a file runs unless it is trusted."""

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from foretell.backends import Backend, ModelOptions, describe, is_thread_safe, load_backend
from foretell.errors import Setup, Unavailable
from foretell.formats.torch import operators
from foretell.pipeline import Pipeline
from foretell.tensors import Datatype

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width=8, devices=()):
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(1, width, 3), torch.nn.Linear(width * 36, 10)

    def forward(self, image):
        image.mul_(1 / 16)
        return torch.softmax(self.last(torch.relu(self.first(image)).flatten(1)), 1)

class Two(torch.nn.Module):
    def forward(self, a, b):
        return {"sum": a + b, "first": (a * 2).to(torch.bfloat16)}

def make():
    return Net()
"""
PLAIN = ModelOptions()
INPUTS = {"inputs": {"image": "FP32[1, 8, 8]"}}
TRUSTED = ModelOptions(trust=True, options=INPUTS)


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 1, 8, 8).astype(np.float32), labels.astype(np.int64)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    names: dict[str, Any] = {}
    path = tmp_path_factory.mktemp("code") / "net.py"
    path.write_text(CODE)
    sys.path.insert(0, str(path.parent))
    import net  # type: ignore[import-not-found]

    sys.path.remove(str(path.parent))
    names.update(vars(net))
    return names


@pytest.fixture(scope="module")
def net(code: dict[str, Any], digits: tuple[Any, Any]) -> Any:
    """A convolution trained on the first 1,500 digits."""
    torch.manual_seed(0)
    module = code["Net"]()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    images, labels = (torch.from_numpy(array[:1500].copy()) for array in digits)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(torch.log(module(images.clone()) + 1e-9), labels).backward()
        optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def folder(net: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in every form."""
    folder = tmp_path_factory.mktemp("torch")
    export(net, (torch.zeros(2, 1, 8, 8),), folder / "net.pt2", ({0: torch.export.Dim.DYNAMIC},))
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.trace(net, torch.zeros(2, 1, 8, 8), check_trace=False).save(str(folder / "net.pt"))
    safetensors.save_file(net.state_dict(), folder / "net.safetensors")
    (folder / "net.py").write_text(CODE)
    return folder


def export(module: Any, inputs: tuple[Any, ...], path: Path, dynamic: Any = None) -> Path:
    torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic), path)
    return path


def load(path: Path, options: ModelOptions = PLAIN) -> Backend:
    return load_backend(path, options)


def refusal(path: Path, options: ModelOptions = PLAIN) -> Setup:
    with pytest.raises(Setup) as refused:
        load(path, options)
    return refused.value


FORMS = {
    "net.pt2": ModelOptions(),
    "net.pt": TRUSTED,
    "net.safetensors": ModelOptions(options={"class": "net.py:Net", "arguments": {"width": 8}, **INPUTS}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_net_that_was_trained_here_reads_digits_it_never_saw(form: str, folder: Path, net: Any, digits: Any) -> None:
    backend = load(folder / form, FORMS[form])
    images, labels = digits[0][1500:], digits[1][1500:]
    before = images.copy()
    (answer,) = (array.astype(np.float32) for array in Pipeline(backend)({"image": images}).values())
    assert (np.argmax(answer, axis=1) == labels).mean() > 0.85
    with torch.inference_mode():
        np.testing.assert_allclose(answer, net(torch.from_numpy(images.copy())).numpy(), atol=1e-5)
    np.testing.assert_array_equal(images, before)


def test_a_program_brings_its_signature(folder: Path) -> None:
    backend = load(folder / "net.pt2")
    assert str(backend.signature) == "(image FP32 [1, 8, 8]) -> (softmax FP32 [10])"
    assert is_thread_safe(backend)
    facts = describe(backend)
    assert (facts["format"], facts["parameters"], facts["provider"]) == ("PyTorch exported program", "2,970", "cpu")


def test_the_operators_of_a_program_can_be_told(folder: Path) -> None:
    assert {"aten.conv2d.default", "aten.linear.default"} <= operators(folder / "net.pt2")


def test_outputs_in_a_dict_keep_their_names_and_datatypes(code: dict[str, Any], tmp_path: Path) -> None:
    rows = {0: torch.export.Dim.DYNAMIC}
    backend = load(export(code["Two"](), (torch.ones(2, 3), torch.ones(2, 3)), tmp_path / "two.pt2", (rows, rows)))
    assert str(backend.signature) == "(a FP32 [3], b FP32 [3]) -> (sum FP32 [3], first BF16 [3])"
    got = backend.forward({"a": np.ones((1, 3), np.float32), "b": np.full((1, 3), 4, np.float32)})
    assert got["sum"].tolist() == [[5, 5, 5]]
    assert got["first"].dtype == Datatype.BF16.numpy
    assert got["first"].astype(np.float32).tolist() == [[2, 2, 2]]


@pytest.mark.parametrize("rows", [None, {0: torch.export.Dim("rows", min=1, max=4)}], ids=["fixed at 2", "at most 4"])
def test_any_number_of_rows_is_cut_as_the_program_was_exported(rows: Any, code: dict[str, Any], tmp_path: Path) -> None:
    backend = load(export(code["Two"](), (torch.ones(2, 3), torch.ones(2, 3)), tmp_path / "two.pt2", rows and (rows, rows)))
    many = np.arange(33, dtype=np.float32).reshape(11, 3)
    np.testing.assert_array_equal(backend.forward({"a": many, "b": many})["sum"], many * 2)
    np.testing.assert_array_equal(backend.forward({"a": many[:1], "b": many[:1]})["sum"], many[:1] * 2)


def test_a_program_for_many_rows_at_least_is_refused(code: dict[str, Any], tmp_path: Path) -> None:
    rows = {0: torch.export.Dim("rows", min=4, max=64)}
    path = export(code["Two"](), (torch.ones(8, 3), torch.ones(8, 3)), tmp_path / "two.pt2", (rows, rows))
    assert "takes at least 4 rows" in refusal(path).message


def test_closing_twice_is_harmless_and_final(folder: Path, digits: Any) -> None:
    backend = load(folder / "net.pt2")
    backend.close()
    backend.close()
    with pytest.raises(Unavailable):
        backend.forward({"image": digits[0][:1]})


# -- what has to be told


def test_torchscript_says_what_has_to_be_described(folder: Path) -> None:
    error = refusal(folder / "net.pt", ModelOptions(trust=True))
    assert error.code == "wrong_setting"
    assert "it takes image" in error.message


def test_an_output_that_is_not_as_described_is_refused(folder: Path) -> None:
    options = {**INPUTS, "outputs": {"classes": "FP32[9]"}}
    error = refusal(folder / "net.pt", ModelOptions(trust=True, options=options))
    assert "the output classes FP32 [9] was given as classes FP32 [10]" in error.message


def test_an_open_length_asks_for_the_outputs_too(folder: Path) -> None:
    error = refusal(folder / "net.pt", ModelOptions(trust=True, options={"inputs": {"image": "FP32[1, ?, ?]"}}))
    assert "describe the outputs too" in error.message


def test_a_class_and_the_weights_of_another_are_told_apart(folder: Path) -> None:
    options = {"class": "net.py:Net", "arguments": {"width": 9}, **INPUTS}
    error = refusal(folder / "net.safetensors", ModelOptions(options=options))
    assert error.code == "broken_model"
    assert "'first.bias' is (8,) in the file and (9,) in Net" in error.message


@pytest.mark.parametrize(
    ("options", "refused_as", "told"),
    [
        ({}, "wrong_setting", 'class = "net.py:Net"'),
        ({"class": "net.py:make", **INPUTS}, "broken_code", "no class made from torch.nn.Module"),
        ({"class": "net.py:Nett", **INPUTS}, "broken_code", "did you mean 'Net'?"),
        ({"class": "../net.py:Net", **INPUTS}, "outside_folder", "leads out of"),
        ({"class": "net.py:Net", "arguments": {"wide": 1}, **INPUTS}, "broken_code", "wide"),
        ({"class": "net.py:Net", "input": {}}, "wrong_setting", "did you mean 'inputs'?"),
        ({"class": "net.py:Net", "inputs": {"text": "BYTES"}}, "wrong_setting", "torch has no BYTES"),
    ],
)
def test_what_a_class_needs_is_named(folder: Path, options: dict[str, object], refused_as: str, told: str) -> None:
    error = refusal(folder / "net.safetensors", ModelOptions(options=options))
    assert (error.code, told in error.message) == (refused_as, True), error.message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("device", ["cuda:7", "tpu", "meta"])
def test_a_device_that_is_not_there_is_a_failed_load(folder: Path, form: str, device: str) -> None:
    chosen = FORMS[form]
    error = refusal(folder / form, ModelOptions(trust=chosen.trust, options=chosen.options, providers=(device,)))
    assert error.code == "wrong_provider"
    assert device in error.message


def test_several_devices_are_for_a_class_that_uses_them(folder: Path) -> None:
    assert refusal(folder / "net.pt2", ModelOptions(providers=("cpu", "cuda:0"))).code == "wrong_setting"


# -- what does not load


class Trap:
    """A pickle of it writes a file when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def test_a_pickle_is_refused_before_it_is_read(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    plain, saved = tmp_path / "plain.pt", tmp_path / "saved.pth"
    plain.write_bytes(pickle.dumps(Trap(trace)))
    torch.save(Trap(trace), saved)
    old = tmp_path / "old.pt"
    torch.save(Trap(trace), old, _use_new_zipfile_serialization=False)
    for path in (plain, saved, old):
        error = refusal(path, ModelOptions(trust=True))
        assert error.code == "broken_model"
        assert "is a pickle of torch.save" in error.message
    assert not trace.exists()


def test_torchscript_without_trust_is_refused(folder: Path) -> None:
    assert refusal(folder / "net.pt", ModelOptions(options=INPUTS)).code == "untrusted_model"


def altered(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], **extra: bytes) -> Path:
    """A copy of an archive: ``change`` gives each file's new content, None to leave it out; ``extra`` are added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
        for name, content in extra.items():
            new.writestr(name.replace("__", "/"), content)
    return target


def with_program(source: Path, target: Path, change: Callable[[Any], None], file: str = "models/model.json") -> Path:
    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith(file):
            return content
        program = json.loads(content)
        change(program)
        return json.dumps(program).encode()

    return altered(source, target, edit)


def _set_operator(program: Any, trap: str) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.system"


def _set_file_operator(program: Any, trap: str) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"


def _set_name(program: Any, trap: str) -> None:
    program["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"] = f"image={trap}"


def _set_guard(program: Any, trap: str) -> None:
    program["guards_code"] = [f"{trap} or True"]


def _set_expression(program: Any, trap: str) -> None:
    size = program["graph_module"]["graph"]["tensor_values"]["image"]["sizes"][0]
    size["as_expr"]["expr_str"] = trap


def _set_containers(program: Any, trap: str) -> None:
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    signature["in_spec"] = signature["in_spec"].replace("builtins.dict", "collections.defaultdict")


TRAPS = [_set_operator, _set_file_operator, _set_name, _set_guard, _set_expression, _set_containers]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__[5:])
def test_a_program_that_could_run_code_needs_trust(folder: Path, tmp_path: Path, trap: Any) -> None:
    trace = tmp_path / "trace"
    text = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    path = with_program(folder / "net.pt2", tmp_path / "trap.pt2", lambda program: trap(program, text))
    error = refusal(path)
    assert error.code == "untrusted_model", error.message
    assert not trace.exists()


def test_trust_lets_such_code_run(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trace = tmp_path / "trace"
    text = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    path = with_program(folder / "net.pt2", tmp_path / "trap.pt2", lambda program: _set_expression(program, text))
    with caplog.at_level("INFO", "foretell"):
        assert refusal(path, ModelOptions(trust=True)).code == "broken_model"
    assert trace.exists(), "the other tests show nothing: PyTorch itself refuses this now"
    assert "sha256" in caplog.text


def test_weights_of_no_bytes_are_not_made_up(folder: Path, tmp_path: Path) -> None:
    path = altered(folder / "net.pt2", tmp_path / "e.pt2", lambda name, old: b"" if name.endswith("weight_0") else old)
    assert "it holds nothing of 'weight_0'" in refusal(path).message


def test_a_pickle_in_a_program_needs_trust(folder: Path, tmp_path: Path) -> None:
    def change(config: Any) -> None:
        config["config"]["first.bias"]["use_pickle"] = True

    path = with_program(folder / "net.pt2", tmp_path / "trap.pt2", change, "model_weights_config.json")
    assert refusal(path).code == "untrusted_model"


def test_sample_inputs_are_not_read(folder: Path, tmp_path: Path, digits: Any) -> None:
    trap = io.BytesIO()
    torch.save(Trap(tmp_path / "trace"), trap)
    path = altered(
        folder / "net.pt2", tmp_path / "trap.pt2", lambda name, old: trap.getvalue() if "sample_inputs" in name else old
    )
    assert load(path).forward({"image": digits[0][:1]})["softmax"].shape == (1, 10)
    assert not (tmp_path / "trace").exists()


def test_a_program_from_another_device_runs_on_the_cpu(folder: Path, tmp_path: Path, digits: Any) -> None:
    def change(config: Any) -> None:
        for payload in config["config"].values():
            payload["tensor_meta"]["device"] = {"type": "cuda", "index": 0}

    path = with_program(folder / "net.pt2", tmp_path / "cuda.pt2", change, "model_weights_config.json")
    assert load(path).forward({"image": digits[0][:1]})["softmax"].shape == (1, 10)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_short_is_named(folder: Path, tmp_path: Path, form: str, share: float) -> None:
    path = tmp_path / form
    whole = (folder / form).read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    (tmp_path / "net.py").write_text(CODE)
    error = refusal(path, FORMS[form])
    assert error.code == "broken_model"
    assert str(path) in error.message


def test_a_program_of_a_newer_torch_is_named(folder: Path, tmp_path: Path) -> None:
    def change(program: Any) -> None:
        program["schema_version"]["major"] += 1

    error = refusal(with_program(folder / "net.pt2", tmp_path / "new.pt2", change))
    assert error.code == "broken_model"
    assert "install the newer one" in error.message


def test_an_archive_that_swells_is_refused_unread(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("net/models/model.json", b" " * (300 * 2**20))
    assert "would take 314,572,800 bytes" in refusal(path).message


def test_an_archive_with_two_files_of_a_name_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.pt2"
    path.write_bytes((folder / "net.pt2").read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/models/model.json", b"{}")
    assert "two files of one name" in refusal(path).message


def test_compiled_code_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    path = altered(folder / "net.pt2", tmp_path / "c.pt2", lambda name, old: old, net__data__aotinductor__model__a=b"\x7fELF")
    assert "compiled code" in refusal(path, ModelOptions(trust=True)).message


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x08\x01", b"torch"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.pt").write_bytes(content)
    assert refusal(tmp_path / "other.pt").code == "broken_model"


def test_a_missing_package_says_what_to_install(folder: Path) -> None:
    program = f"""
import sys
sys.modules["torch"] = None
import foretell
try:
    foretell.load({str(folder / "net.pt2")!r})
except foretell.ForetellError as error:
    print(error.code, error.message)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.startswith("missing_extra backend 'torch' needs the package 'torch'")
    assert run.stdout.strip().endswith("pip install 'foretell[torch]'")
