"""The specification in one test: every mode, over every backend, agrees with calling the pipeline directly."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
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
from foretell.tensors import Array, Arrays
from tests.backends import graphs
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
BACKENDS = ("plain", "stepped", "fixed", "cancer", "lite", "code.py:model")
CLOSE = 1e-5
"""Relative, for FP32: kernels may add in another order in a batch of another size."""

FEATURES = load_breast_cancer(return_X_y=True)[0].astype(np.float32)[:60]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of every backend, with and without steps, each taking 30 features."""
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
    (folder / "code.py").write_text(CODE)
    return folder


@pytest.fixture(scope="module", params=["--http-fast-lane", "--no-http-fast-lane"])
def server(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    logs = tmp_path_factory.mktemp("log")
    with serving(logs, str(repository), f"{repository}/code.py:model", request.param, models={}) as served:
        yield served


def open_model(repository: Path, backend: str) -> Pipeline:
    return open_pipeline(f"{repository}/{backend}")


def row_by_row(pipeline: Pipeline) -> list[Arrays]:
    return [pipeline({input_of(pipeline): FEATURES[index : index + 1]}) for index in range(len(FEATURES))]


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
    for chunk in np.array_split(FEATURES, 7):
        tensor = {"name": input_of(pipeline), "shape": chunk.shape, "datatype": "FP32", "data": chunk.ravel().tolist()}
        reply = server.ask(post(f"/v2/models/{backend.partition('.')[0]}/infer", orjson.dumps({"inputs": [tensor]})))
        for output in reply.json()["outputs"]:
            got[output["name"]] += np.reshape(output["data"], output["shape"]).tolist()
    assert_agrees(got, pipeline)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_row_door_agrees_with_the_pipeline(server: Served, repository: Path, backend: str) -> None:
    pipeline = open_model(repository, backend)
    body = orjson.dumps([{input_of(pipeline): row.tolist()} for row in FEATURES])
    predictions = server.ask(post(f"/predict/{backend.partition('.')[0]}", body)).json()["predictions"]
    assert_agrees({name: [row[name] for row in predictions] for name in predictions[0]}, pipeline)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_callers_at_once_agree_with_the_pipeline(repository: Path, backend: str) -> None:
    pipeline = open_model(repository, backend)

    async def main() -> list[Arrays]:
        engine = Engine("m", "1", pipeline, EngineSettings())
        await engine.start()
        requests = [Request({input_of(pipeline): row[np.newaxis]}, 0.0) for row in FEATURES]
        return await asyncio.gather(*map(engine.infer, requests))

    answers = asyncio.run(main())
    assert_agrees({spec.name: stacked(answers, spec.name) for spec in pipeline.signature.outputs}, pipeline)


def stacked(answers: list[Arrays], name: str) -> Array:
    return np.concatenate([answer[name] for answer in answers])


@pytest.mark.parametrize("suffix", ["ndjson", "csv", "parquet"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_files_agree_with_the_pipeline(tmp_path: Path, repository: Path, backend: str, suffix: str) -> None:
    pipeline = open_model(repository, backend)
    source = write_rows[suffix](tmp_path)
    target = tmp_path / "answers.ndjson"
    columns = {} if suffix == "csv" else {input_of(pipeline): "features"}
    report = predict(pipeline, source, target, PredictSettings(batch_rows=16, workers=2), Options(map=columns))
    assert (report.rows, report.failed) == (len(FEATURES), 0)
    rows = [orjson.loads(line) for line in target.read_bytes().splitlines()]
    assert [row.pop("row") for row in rows] == list(range(len(FEATURES)))
    assert_agrees({name: [row[name] for row in rows] for name in rows[0]}, pipeline)


def write_ndjson(folder: Path) -> Path:
    path = folder / "rows.ndjson"
    path.write_bytes(b"\n".join(orjson.dumps({"features": row.tolist()}) for row in FEATURES))
    return path


def write_csv(folder: Path) -> Path:
    path = folder / "rows.csv"
    header = ",".join(f"c{index}" for index in range(30))
    path.write_text("\n".join([header, *(",".join(map(repr, row.tolist())) for row in FEATURES)]))
    return path


def write_parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet

    path = folder / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"features": FEATURES.tolist()}), path)
    return path


write_rows: dict[str, Callable[[Path], Path]] = {"ndjson": write_ndjson, "csv": write_csv, "parquet": write_parquet}
