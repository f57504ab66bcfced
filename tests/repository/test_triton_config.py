"""config.pbtxt, read as Triton's own documentation describes it."""

from pathlib import Path

import pytest

from foretell.errors import Setup
from foretell.repository.triton_config import TritonConfig, read_triton_config
from foretell.tensors import Datatype

FULL = """
name: "digits"
platform: "onnxruntime_onnx"
max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] format: FORMAT_NCHW } ]
output [
  { name: "y" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } label_filename: "labels.txt" }
]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 1500 }
version_policy: { specific { versions: [ 1, 3 ] } }
instance_group [ { count: 2 kind: KIND_CPU } ]
parameters { key: "a" value: { string_value: "b" } }
default_model_filename: "network.onnx"
something_new: 3
"""


def read(folder: Path, text: str) -> TritonConfig:
    model = folder / "digits"
    model.mkdir(exist_ok=True)
    (model / "config.pbtxt").write_text(text)
    config = read_triton_config(model)
    assert config is not None
    return config


def test_all_that_changes_answers_is_read(tmp_path: Path) -> None:
    config = read(tmp_path, FULL)
    (x,), (y,) = config.inputs, config.outputs
    assert (x.name, x.dtype, x.dims, x.inner) == ("x", Datatype.FP32, (3, None), (3, None))
    assert (y.dtype, y.dims, y.inner, y.labels_file, y.line) == (Datatype.BYTES, (1,), (), "labels.txt", 7)
    assert config.engine == {"max_batch_rows": 16, "max_wait_s": 0.0015}
    assert (config.rows, config.versions.policy, config.model_file) == (True, [1, 3], "network.onnx")


def test_what_has_no_effect_is_noted(tmp_path: Path) -> None:
    assert list(read(tmp_path, FULL).notes) == [
        "instance_group count 2 has no effect: one instance serves all callers",
        "line 12: parameters has no effect here",
        "line 14: something_new is not known here and has no effect",
        "dynamic_batching preferred_batch_size has no effect: every batch is as large as what waits",
    ]


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    assert read_triton_config(tmp_path) is None


def test_an_empty_one_leaves_all_to_the_model(tmp_path: Path) -> None:
    config = read(tmp_path, "")
    assert (config.rows, config.inputs, config.model_file, config.engine) == (None, (), "model.onnx", {"max_wait_s": 0.0})
    assert read(tmp_path, "max_batch_size: 0").rows is False
    assert read(tmp_path, 'input { name: "x" data_type: TYPE_FP32 dims: 1 }').rows is False


@pytest.mark.parametrize("datatype", Datatype)
def test_every_datatype_has_its_name(datatype: Datatype, tmp_path: Path) -> None:
    name = "STRING" if datatype is Datatype.BYTES else str(datatype)
    config = read(tmp_path, f'input {{ name: "x" data_type: TYPE_{name} dims: 1 }}')
    assert config.inputs[0].dtype is datatype


@pytest.mark.parametrize(
    ("text", "policy", "keep"),
    [
        ("", "latest", 1),
        ("version_policy { latest { } }", "latest", 1),
        ("version_policy: { latest: { num_versions: 3 } }", "latest", 3),
        ("version_policy { all { } }", "all", 1),
        ("version_policy { specific: { versions: 2 versions: 5 } }", [2, 5], 1),
    ],
)
def test_every_version_policy_is_read(text: str, policy: object, keep: int, tmp_path: Path) -> None:
    versions = read(tmp_path, text).versions
    assert (versions.policy, versions.keep) == (policy, keep)


def tensor(more: str) -> str:
    return f'input {{ name: "x" data_type: TYPE_FP32 {more} }}'


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ('backend: "python"', "unsupported_config", ["python backend", "@foretell.model", "line 1"]),
        ('\nplatform: "tensorrt_plan"', "unsupported_config", ["'tensorrt_plan' is not served here", "line 2", "ONNX"]),
        ('backend: "pytorch"', "unsupported_config", ["backend 'pytorch' is not served here"]),
        ('platform: "onnxruntime_onnx" backend: "ensemble"', "broken_config", ["are not the same"]),
        ('platform: "ensemble"', "broken_config", ["needs both"]),
        ("ensemble_scheduling { step { } }", "broken_config", ["needs both"]),
        ('platform: "ensemble" ensemble_scheduling { step { } }', "broken_config", ["names no model"]),
        ('name: "letters"', "broken_config", ["'letters'", "'digits'", "let them agree"]),
        ("sequence_batching { }", "unsupported_config", ["keeps state between requests"]),
        ('model_operations { op_library_filename: "a.so" }', "unsupported_config", ["custom operators"]),
        ("\n\ninstance_group { kind: KIND_GPU }", "unsupported_config", ["line 3", "asks for a GPU", "KIND_CPU"]),
        ("instance_group { gpus: 0 }", "unsupported_config", ["asks for a GPU"]),
        (
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }',
            "unsupported_config",
            ["accelerator"],
        ),
        ("model_transaction_policy { decoupled: true }", "unsupported_config", ["any number of answers"]),
        (tensor("dims: 1 optional: true"), "unsupported_config", ["may be left out"]),
        (tensor("dims: 1 allow_ragged_batch: true"), "unsupported_config", ["different lengths"]),
        (tensor("dims: 1") + tensor("dims: 1"), "broken_config", ["input 'x' is there twice"]),
        (tensor("dims: 0"), "broken_config", ["from 1 on or -1"]),
        (tensor("dims: -2"), "broken_config", ["from -1"]),
        (tensor("dims: [" + "1," * 40 + "1]"), "broken_config", ["up to 32 sizes"]),
        (tensor("dims: 9223372036854775808"), "broken_config", ["2^63 - 1"]),
        (tensor("dims: 4 reshape { shape: 3 }"), "broken_config", ["as many values"]),
        (tensor("dims: -1 reshape { shape: [-1, 1] }"), "broken_config", ["known sizes"]),
        ("input { data_type: TYPE_FP32 }", "broken_config", ["this input has no name"]),
        ('input { name: "x" data_type: TYPE_FP8 }', "broken_config", ["data_type TYPE_FP8, known are TYPE_BOOL"]),
        ('input { name: "x" }', "broken_config", ["data_type missing"]),
        ("max_batch_size: -1", "broken_config", ["from 0"]),
        ("max_batch_size: 99999999999999999999", "broken_config", ["2^63 - 1"]),
        ("dynamic_batching { max_queue_delay_microseconds: 11000000 }", "wrong_setting", ["max_wait_s", "config.pbtxt"]),
        ('default_model_filename: "../other.onnx"', "broken_config", ["plain name"]),
        ('default_model_filename: ".."', "broken_config", ["plain name"]),
        ("version_policy { }", "broken_config", ["one of latest, all and specific"]),
        ("version_policy { all {} latest {} }", "broken_config", ["one of latest, all and specific"]),
        ("version_policy { latest { num_versions: 0 } }", "broken_config", ["from 1"]),
        ("input: 3", "broken_config", ["takes a message in braces"]),
    ],
)
def test_a_mistake_or_a_wish_that_is_not_met_is_named(text: str, code: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(Setup) as caught:
        read(tmp_path, text)
    assert caught.value.code == code
    for word in [*words, "config.pbtxt"]:
        assert word in caught.value.message


def test_an_ensemble_has_steps_with_maps(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        platform: "ensemble" max_batch_size: 8
        ensemble_scheduling { step [
          { model_name: "a" model_version: -1 input_map { key: "x" value: "RAW" } output_map { key: "y" value: "MID" } },
          { model_name: "b" model_version: 2 input_map: { key: "x", value: "MID" } }
        ] }
        """,
    )
    first, second = config.steps
    assert (first.model, first.version, dict(first.inputs), dict(first.outputs)) == ("a", None, {"x": "RAW"}, {"y": "MID"})
    assert (second.model, second.version, second.line) == ("b", "2", 5)


def test_a_map_that_names_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    entry = 'input_map { key: "x" value: "A" }'
    with pytest.raises(Setup, match="input_map names 'x' twice"):
        read(tmp_path, f'platform: "ensemble" ensemble_scheduling {{ step {{ model_name: "a" {entry} {entry} }} }}')


def test_what_tritons_own_writer_writes_is_read(tmp_path: Path) -> None:
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    config = messages.ModelConfig(
        name="digits", platform="onnxruntime_onnx", max_batch_size=4, parameters={"a": {"string_value": "é\n"}}
    )
    config.input.add(name='x"\\\n', data_type=messages.TYPE_FP16, dims=[-1, 3])
    config.output.add(name="y", data_type=messages.TYPE_STRING, dims=[1], reshape={"shape": []}, label_filename="a.txt")
    config.version_policy.specific.versions.extend([1, 3])
    config.dynamic_batching.max_queue_delay_microseconds = 7
    for as_one_line in (False, True):
        read_back = read(tmp_path, text_format.MessageToString(config, as_one_line=as_one_line))
        assert [(x.name, x.dtype, x.dims) for x in read_back.inputs] == [('x"\\\n', Datatype.FP16, (None, 3))]
        assert [(y.labels_file, y.inner) for y in read_back.outputs] == [("a.txt", ())]
        assert (read_back.versions.policy, read_back.engine) == ([1, 3], {"max_batch_rows": 4, "max_wait_s": 7e-6})
