"""The specification in one test: every mode, over every backend, agrees with calling the pipeline directly."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import orjson
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foretell.engine.engine import Engine
from foretell.modes.files import Options, predict
from foretell.pipeline import Pipeline
from foretell.repository import open_pipeline
from foretell.request import Request
from foretell.settings import EngineSettings, PredictSettings
from foretell.tensors import Array, Arrays, Datatype
from tests.backends import encoders, graphs
from tests.serving import Served, post, serving

CODE = """
import foretell

@foretell.model(inputs={"features": "FP32[30]"}, outputs={"mean": "FP32", "largest": "FP32[1]"})
def model(inputs):
    rows = inputs["features"]
    return {"mean": rows.mean(axis=1), "largest": rows.max(axis=1, keepdims=True)}
"""
STEPS = """
[[preprocess]]
step = "check.finite"
[[postprocess]]
step = "numbers.softmax"
[[postprocess]]
step = "labels.top_k"
k = 2
labels = ["malign", "benign", "unknown"]
"""
HEAVY = {"exported": "torch", "dense": "tensorflow"}
"""Those that need a package which the tests do without: `make runtimes` brings it."""
BACKENDS = (
    *("plain", "stepped", "fixed", "cancer", "lite", "encoder", "code.py:model"),
    *(
        pytest.param(
            name, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed: make runtimes")
        )
        for name, package in HEAVY.items()
    ),
)
CLOSE = 1e-5
"""Relative, for FP32: kernels may add in another order in a batch of another size."""

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")  # Keras

FEATURES = load_breast_cancer(return_X_y=True)[0].astype(np.float32)[:60]
TEXTS = np.array([text.encode() for text in encoders.sentences()[0][:60]], np.object_)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of every backend, with and without steps, each taking 30 features; one takes texts."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("plain", "stepped", "fixed", "cancer", "lite"):
        (folder / name / "1").mkdir(parents=True)
    graphs.save(graphs.linear(features=30), folder / "plain/1/model.onnx")
    graphs.save(graphs.linear(features=30), folder / "stepped/1/model.onnx")
    graphs.save(graphs.linear(4, features=30), folder / "fixed/1/model.onnx")
    (folder / "stepped/pipeline.toml").write_text(STEPS)
    features, labels = load_breast_cancer(return_X_y=True)
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(features, labels), folder / "cancer/1/model.joblib")
    (folder / "cancer/pipeline.toml").write_text("[model]\ntrust = true\n")
    shutil.copy(Path(__file__).parent / "backends/models/cancer.tflite", folder / "lite/1/model.tflite")
    encoders.save(folder / "encoder/1", encoders.encoder(), encoders.train_tokenizer())
    (folder / "code.py").write_text(CODE)
    for name, package in HEAVY.items():
        if find_spec(package) is not None:
            (folder / name / "1").mkdir(parents=True)
            SAVE[name](folder / name / "1")
    return folder


def save_exported(folder: Path) -> None:
    import torch

    torch.manual_seed(7)
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(30, affine=False), torch.nn.Linear(30, 3), torch.nn.Softmax(1)).eval()
    rows = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(net, (torch.zeros(2, 30),), dynamic_shapes=rows), folder / "model.pt2")


def save_dense(folder: Path) -> None:
    import keras

    keras.utils.set_random_seed(7)
    layers = [keras.Input((30,), name="features"), keras.layers.LayerNormalization(), keras.layers.Dense(3, "softmax")]
    keras.Sequential(layers).save(folder / "model.keras")


SAVE: dict[str, Callable[[Path], None]] = {"exported": save_exported, "dense": save_dense}


@pytest.fixture(scope="module", params=["--http-fast-lane", "--no-http-fast-lane"])
def server(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    logs = tmp_path_factory.mktemp("log")
    with serving(logs, str(repository), f"{repository}/code.py:model", request.param, models={}) as served:
        yield served


def open_model(repository: Path, backend: str) -> Pipeline:
    return open_pipeline(f"{repository}/{backend}")


def row_by_row(pipeline: Pipeline) -> list[Arrays]:
    rows = rows_of(pipeline)
    return [pipeline({input_of(pipeline): rows[index : index + 1]}) for index in range(len(rows))]


def rows_of(pipeline: Pipeline) -> Array:
    return TEXTS if pipeline.signature.inputs[0].dtype is Datatype.BYTES else FEATURES


def plain(rows: Array) -> list[Any]:
    """Rows as JSON has them."""
    return [row.decode() if isinstance(row, bytes) else row.tolist() for row in rows]


def input_of(pipeline: Pipeline) -> str:
    """Exporters name the features as they like."""
    return pipeline.signature.inputs[0].name


def assert_agrees(got: dict[str, Any], pipeline: Pipeline) -> None:
    """Every output, row by row and in order, equals the pipeline's."""
    expected = row_by_row(pipeline)
    assert list(got) == [spec.name for spec in pipeline.signature.outputs]
    for name, values in got.items():
        want = np.concatenate([row[name] for row in expected])
        if want.dtype == object:
            assert as_text(values) == as_text(want)
        else:
            np.testing.assert_allclose(np.asarray(values, want.dtype).reshape(want.shape), want, rtol=CLOSE, atol=1e-7)


def as_text(values: Any) -> Any:
    if isinstance(values, bytes):
        return values.decode()
    return [as_text(value) for value in values] if isinstance(values, list | np.ndarray) else values


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_tensor_door_agrees_with_the_pipeline(server: Served, repository: Path, backend: str) -> None:
    pipeline = open_model(repository, backend)
    got: dict[str, list[Any]] = {spec.name: [] for spec in pipeline.signature.outputs}
    datatype = str(pipeline.signature.inputs[0].dtype)
    for chunk in np.array_split(rows_of(pipeline), 7):
        tensor = {"name": input_of(pipeline), "shape": chunk.shape, "datatype": datatype, "data": plain(chunk)}
        reply = server.ask(post(f"/v2/models/{backend.partition('.')[0]}/infer", orjson.dumps({"inputs": [tensor]})))
        for output in reply.json()["outputs"]:
            got[output["name"]] += np.reshape(output["data"], output["shape"]).tolist()
    assert_agrees(got, pipeline)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_row_door_agrees_with_the_pipeline(server: Served, repository: Path, backend: str) -> None:
    pipeline = open_model(repository, backend)
    body = orjson.dumps([{input_of(pipeline): row} for row in plain(rows_of(pipeline))])
    predictions = server.ask(post(f"/predict/{backend.partition('.')[0]}", body)).json()["predictions"]
    assert_agrees({name: [row[name] for row in predictions] for name in predictions[0]}, pipeline)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_callers_at_once_agree_with_the_pipeline(repository: Path, backend: str) -> None:
    pipeline = open_model(repository, backend)

    async def main() -> list[Arrays]:
        engine = Engine("m", "1", pipeline, EngineSettings())
        await engine.start()
        rows = rows_of(pipeline)
        requests = [Request({input_of(pipeline): rows[place : place + 1]}, 0.0) for place in range(len(rows))]
        return await asyncio.gather(*map(engine.infer, requests))

    answers = asyncio.run(main())
    assert_agrees({spec.name: stacked(answers, spec.name) for spec in pipeline.signature.outputs}, pipeline)


def stacked(answers: list[Arrays], name: str) -> Array:
    return np.concatenate([answer[name] for answer in answers])


@pytest.mark.parametrize("suffix", ["ndjson", "csv", "parquet"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_files_agree_with_the_pipeline(tmp_path: Path, repository: Path, backend: str, suffix: str) -> None:
    pipeline = open_model(repository, backend)
    rows = rows_of(pipeline)
    source = write_rows[suffix](tmp_path, rows)
    target = tmp_path / "answers.ndjson"
    columns = {} if suffix == "csv" and rows is FEATURES else {input_of(pipeline): "features"}
    report = predict(pipeline, source, target, PredictSettings(batch_rows=16, workers=2), Options(map=columns))
    assert (report.rows, report.failed) == (len(FEATURES), 0)
    answers = [orjson.loads(line) for line in target.read_bytes().splitlines()]
    assert [answer.pop("row") for answer in answers] == list(range(len(rows)))
    assert_agrees({name: [answer[name] for answer in answers] for name in answers[0]}, pipeline)


def write_ndjson(folder: Path, rows: Array) -> Path:
    path = folder / "rows.ndjson"
    path.write_bytes(b"\n".join(orjson.dumps({"features": row}) for row in plain(rows)))
    return path


def write_csv(folder: Path, rows: Array) -> Path:
    path = folder / "rows.csv"
    header = "features" if rows is TEXTS else ",".join(f"c{index}" for index in range(30))
    lines = plain(rows) if rows is TEXTS else [",".join(map(repr, row)) for row in plain(rows)]
    path.write_text("\n".join([header, *lines]))
    return path


def write_parquet(folder: Path, rows: Array) -> Path:
    import pyarrow as pa
    import pyarrow.parquet

    path = folder / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"features": plain(rows)}), path)
    return path


write_rows: dict[str, Callable[[Path, Array], Path]] = {"ndjson": write_ndjson, "csv": write_csv, "parquet": write_parquet}
