"""The whole way of the files mode: every format in, every format out."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from foretell.errors import Invalid, Setup
from foretell.modes.files import Options, Report, predict
from foretell.modes.files.predict import chunk_rows
from foretell.pipeline import Pipeline
from foretell.settings import PredictSettings
from foretell.steps import check
from foretell.storage import Place
from foretell.tensors import Arrays, Datatype, TensorSpec
from tests.modes.files.models import FEW_ROWS, ONE_WORKER, Mirror, Only, Sum, features, pipeline, table
from tests.serving import eventually

ROWS = 50
INPUTS = ("csv", "ndjson", "jsonl", "parquet", "npy")
OUTPUTS = ("csv", "ndjson", "parquet")
SLOW = """
import pathlib, time
import foretell

@foretell.model(inputs={"x": "FP32[3]"}, outputs={"y": "FP32"})
def model(inputs):
    if (inputs["x"] == 7).all():  # not what warms it up
        pathlib.Path("called").touch()
    time.sleep(0.05)
    return {"y": inputs["x"].sum(axis=1)}
"""


def write_rows(path: Path, values: np.ndarray[Any, Any]) -> Path:
    """``values`` as columns x_0 to x_2, in the format of the suffix."""
    if path.suffix == ".csv":
        pa.csv.write_csv(table(values), path)
    elif path.suffix == ".parquet":
        pa.parquet.write_table(table(values), path, row_group_size=11)
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        path.write_text("".join(json.dumps({"x": row}) + "\n" for row in values.tolist()))
    return path


def read_answers(path: Path) -> dict[str, Any]:
    """Columns ``row``, ``y`` and ``z``, whatever the format."""
    if path.suffix == ".parquet":
        found: dict[str, Any] = pa.parquet.read_table(path).to_pydict()
        return found
    if path.suffix == ".csv":
        flat = pa.csv.read_csv(path).to_pydict()
        z = [list(row) for row in zip(*(flat[f"z_{i}"] for i in range(3)), strict=True)]
        return {"row": flat["row"], "y": flat["y"], "z": z}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {key: [row[key] for row in rows] for key in ("row", "y", "z")}


def local(place: Place | None) -> Path:
    assert isinstance(place, Path)
    return place


def errors_of(report: Report) -> list[dict[str, Any]]:
    assert report.errors is not None
    return [json.loads(line) for line in local(report.errors).read_text().splitlines()]


@pytest.mark.parametrize("suffix", INPUTS)
@pytest.mark.parametrize("out", OUTPUTS)
def test_every_format_gives_the_pipelines_own_answers_in_order(tmp_path: Path, suffix: str, out: str) -> None:
    values = features(ROWS)
    source = write_rows(tmp_path / f"rows.{suffix}", values)
    report = predict(pipeline(Sum()), source, tmp_path / f"answers.{out}", FEW_ROWS)
    expected = pipeline(Sum())({"x": values})
    got = read_answers(local(report.target))
    assert (report.rows, report.failed, report.errors) == (ROWS, 0, None)
    assert got["row"] == list(range(ROWS))
    np.testing.assert_array_equal(np.array(got["y"], dtype=np.float32), expected["y"])
    np.testing.assert_array_equal(np.array(got["z"], dtype=np.float32), expected["z"])


@pytest.mark.parametrize("suffix", INPUTS)
def test_npy_holds_the_only_output(tmp_path: Path, suffix: str) -> None:
    values = features(ROWS)
    source = write_rows(tmp_path / f"rows.{suffix}", values)
    predict(pipeline(Only()), source, tmp_path / "answers.npy", FEW_ROWS)
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), values * 2)


@pytest.mark.parametrize("suffix", INPUTS)
@pytest.mark.parametrize("out", OUTPUTS)
def test_rows_that_the_model_refuses_are_set_aside_and_the_rest_go_on(tmp_path: Path, suffix: str, out: str) -> None:
    values = features(ROWS)
    values[[3, 20, 21, 49], 1] = 666
    source = write_rows(tmp_path / f"rows.{suffix}", values)
    report = predict(pipeline(Sum()), source, tmp_path / f"answers.{out}", FEW_ROWS)
    assert (report.rows, report.failed) == (ROWS - 4, 4)
    assert read_answers(local(report.target))["row"] == [i for i in range(ROWS) if i not in (3, 20, 21, 49)]
    assert [(bad["row"], bad["code"]) for bad in errors_of(report)] == [(i, "model_failed") for i in (3, 20, 21, 49)]
    assert "the beast" in errors_of(report)[0]["error"]


@pytest.mark.parametrize("out", OUTPUTS)
def test_a_file_of_bad_rows_alone_gives_answers_without_rows(tmp_path: Path, out: str) -> None:
    source = tmp_path / "rows.ndjson"
    source.write_text("[" * 100_000 + "\n" + "{\n" * 30)
    report = predict(pipeline(Sum()), source, tmp_path / f"answers.{out}", FEW_ROWS)
    assert (report.rows, report.failed) == (0, 31)
    assert [bad["row"] for bad in errors_of(report)] == list(range(31))


def test_a_step_that_refuses_a_row_does_not_stop_its_neighbours(tmp_path: Path) -> None:
    def refuse(arrays: Arrays) -> Arrays:
        if (np.asarray(arrays["x"], dtype=np.float32) < 0).any():
            raise Invalid("refused_value", "x is below 0, at least 0 is allowed")
        return arrays

    source = write_rows(tmp_path / "rows.csv", np.array([[1, 2, 3], [1, -2, 3], [4, 5, 6]]))
    report = predict(Pipeline(Sum(), preprocess=[refuse]), source, tmp_path / "answers.csv", ONE_WORKER)
    assert read_answers(local(report.target))["row"] == [0, 2]
    assert errors_of(report) == [{"row": 1, "code": "refused_value", "error": "x is below 0, at least 0 is allowed"}]


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "npy"])
def test_a_reason_numbers_the_row_as_the_file_does(tmp_path: Path, suffix: str) -> None:
    values = features(ROWS).astype(np.float64)
    values[4, 1] = np.inf
    values[13, 2] = 1e300
    source = write_rows(tmp_path / f"rows.{suffix}", values)
    if suffix == "ndjson":
        source.write_text(source.read_text().replace("Infinity", '"Infinity"'))
    guarded = Pipeline(Sum(), preprocess=[check.finite()])
    report = predict(guarded, source, tmp_path / "answers.csv", FEW_ROWS)
    assert [bad["row"] for bad in errors_of(report)] == [4, 13]
    assert "row 4, position [1]: expected a finite number" in errors_of(report)[0]["error"]
    assert "at index [13, 2] cannot be held" in errors_of(report)[1]["error"]


def test_a_good_run_removes_the_errors_of_the_run_before(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.csv", features(3))
    stale = tmp_path / "answers.csv.errors.ndjson"
    stale.write_text("old")
    predict(pipeline(Sum()), source, tmp_path / "answers.csv", ONE_WORKER)
    assert not stale.exists()


@pytest.mark.parametrize("out", ["csv", "ndjson", "parquet", "npy"])
def test_a_source_without_rows_gives_answers_without_rows(tmp_path: Path, out: str) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("x_0,x_1,x_2\n")
    report = predict(pipeline(Only()), source, tmp_path / f"answers.{out}", ONE_WORKER)
    assert report.rows == 0
    if out == "csv":
        assert local(report.target).read_text() == "row,z_0,z_1,z_2\n"
    if out == "npy":
        assert np.load(local(report.target)).shape == (0, 3)


def test_a_model_without_a_row_axis_sees_one_row_at_a_time(tmp_path: Path) -> None:
    model = Mirror(TensorSpec("x", Datatype.FP64, (1, 3)), rows=False)
    values = features(5).astype(np.float64)
    source = write_rows(tmp_path / "rows.parquet", values)
    predict(pipeline(model), source, tmp_path / "answers.npy", FEW_ROWS)
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), values.reshape(5, 1, 3))


def test_a_pipeline_that_merges_rows_answers_them_one_by_one(tmp_path: Path) -> None:
    def merge(arrays: Arrays) -> Arrays:
        return {name: np.asarray(array).mean(axis=0, keepdims=True) for name, array in arrays.items()}

    values = features(5)
    source = write_rows(tmp_path / "rows.parquet", values)
    predict(Pipeline(Only(), postprocess=[merge]), source, tmp_path / "answers.npy", ONE_WORKER)
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), values * 2)


def test_lists_of_different_lengths_are_answered_alike(tmp_path: Path) -> None:
    lists = [[1, 2], [3, 4], [5], [], [6, 7, 8]]
    pa.parquet.write_table(pa.table({"ids": lists}), tmp_path / "rows.parquet")
    (tmp_path / "rows.ndjson").write_text("".join(json.dumps({"ids": ids}) + "\n" for ids in lists))
    for suffix in ("parquet", "ndjson"):
        model = Mirror(TensorSpec("ids", Datatype.INT64, (None,)))
        report = predict(pipeline(model), tmp_path / f"rows.{suffix}", tmp_path / "answers.parquet", ONE_WORKER)
        assert pa.parquet.read_table(report.target)["ids_out"].to_pylist() == lists


def test_a_folder_of_images_is_answered_by_file_name(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("b.png", "a.JPG", "notes.txt"):
        (folder / name).write_text(name)
    model = Mirror(TensorSpec("image", Datatype.BYTES))
    report = predict(pipeline(model), folder, tmp_path / "answers.ndjson", ONE_WORKER)
    rows = [json.loads(line) for line in local(report.target).read_text().splitlines()]
    assert [(row["row"], row["file"], row["image_out"]) for row in rows] == [(0, "a.JPG", "a.JPG"), (1, "b.png", "b.png")]


def test_an_image_that_cannot_be_read_is_a_bad_row_with_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_text("a")
    (folder / "b.png").write_bytes(b"\xff\xfe")
    model = Mirror(TensorSpec("image", Datatype.BYTES))
    report = predict(pipeline(model), folder, tmp_path / "answers.ndjson", ONE_WORKER)
    assert (report.rows, report.failed) == (1, 1)
    assert (errors_of(report)[0]["row"], errors_of(report)[0]["id"]) == (1, "b.png")


def test_large_rows_make_small_chunks() -> None:
    small = pipeline(Mirror(TensorSpec("x", Datatype.FP32, (30,))))
    large = pipeline(Mirror(TensorSpec("x", Datatype.FP32, (3, 224, 224))))
    assert chunk_rows(small, 8192) == 8192
    assert 1 <= chunk_rows(large, 8192) < 16


def refused(tmp_path: Path, source: Path, target: Path, **names: str) -> Setup:
    """The refusal of a run, which must leave nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Setup) as refusal:
        predict(pipeline(Sum()), source, target, ONE_WORKER, Options(map=names))
    assert sorted(tmp_path.rglob("*")) == before
    return refusal.value


def test_refusals_come_before_anything_is_written(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.csv", features(3))
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("xx,b\n1,2\n")
    corrupt = tmp_path / "rows.parquet"
    corrupt.write_bytes(b"PAR1 nonsense PAR1")
    out = tmp_path / "answers.csv"
    assert refused(tmp_path, rows, rows).code == "wrong_target"
    assert refused(tmp_path, rows, tmp_path / "answers.cvs").message.endswith("did you mean '.csv'?")
    as_npz = refused(tmp_path, rows, tmp_path / "answers.npz")
    assert (as_npz.code, ".parquet" in as_npz.message, ".csv" in as_npz.message) == ("unknown_suffix", True, True)
    assert ".npz" not in refused(tmp_path, rows, tmp_path / "answers.txt").message
    assert refused(tmp_path, rows, tmp_path / "nowhere" / "answers.csv").code == "wrong_target"
    assert refused(tmp_path, rows, tmp_path / "answers.npy").code == "wrong_target"
    assert refused(tmp_path, tmp_path / "absent.csv", out).code == "missing_file"
    assert "did you mean 'xx'" in refused(tmp_path, wrong, out).message
    assert str(corrupt) in refused(tmp_path, corrupt, out).message
    assert refused(tmp_path, rows, out, y="x_0").code == "missing_column"


def test_columns_taken_by_their_place_are_told_once_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("a,b,c\n" + "1,2,3\n" * 200)
    predict(pipeline(Only()), source, tmp_path / "answers.csv", PredictSettings(shard_rows=40))
    predict(pipeline(Only()), source, tmp_path / "more.csv", ONE_WORKER)
    assert len([text for text in caplog.messages if "takes the 3 columns" in text]) == 2


def test_a_source_that_breaks_midway_leaves_nothing(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.parquet", features(500))
    data = bytearray(source.read_bytes())
    data[200:2000] = b"\x00" * 1800
    source.write_bytes(data)
    assert refused(tmp_path, source, tmp_path / "answers.csv").code == "broken_file"


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from foretell.modes.files import predict
from tests.modes.files.models import ONE_WORKER, Only, pipeline

class Deadly(Only):
    calls = 0

    def forward(self, inputs):
        self.calls += 1
        if self.calls == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(inputs)

predict(pipeline(Deadly()), Path(sys.argv[1]), Path(sys.argv[2]), ONE_WORKER)
"""


def test_a_killed_run_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.npy", features(200))
    target = tmp_path / "answers.ndjson"
    done = subprocess.run([sys.executable, "-c", KILLED, str(source), str(target)], cwd=Path(__file__).parents[3])
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()


PIPED = """
from foretell.modes.files import predict
from foretell.modes.files.rows import STANDARD
from tests.modes.files.models import ONE_WORKER, Sum, pipeline
predict(pipeline(Sum()), STANDARD, STANDARD, ONE_WORKER)
"""


def test_a_dash_is_ndjson_on_standard_input_and_output() -> None:
    lines = '{"x": [1, 2, 3]}\n\n{"x": "no"}\n{"x": [0, 0, 1]}\n'
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", PIPED], input=lines, capture_output=True, text=True, cwd=root)
    assert [json.loads(line)["y"] for line in done.stdout.splitlines()] == [6.0, 1.0]
    assert json.loads(done.stderr)["row"] == 1


def test_without_pyarrow_the_refusal_says_what_to_type(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\n"
        "from foretell.modes.files import predict\n"
        "from foretell.errors import Setup\n"
        "from foretell.modes.files.formats import open_reader\n"
        "from foretell.modes.files.rows import Source\n"
        "from foretell.tensors import Signature\n"
        "try: open_reader(Source(Path(sys.argv[1]), Signature((), ()), 1))\n"
        "except Setup as error: print(error)\n"
    )
    source = write_rows(tmp_path / "rows.csv", features(3))
    done = subprocess.run([sys.executable, "-c", code, str(source)], capture_output=True, text=True, env={**os.environ})
    assert "pip install 'foretell[files]'" in done.stdout, done.stderr


def test_a_real_onnx_model_answers_as_it_does_when_called(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    import foretell

    nodes = [helper.make_node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=0)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])]
    graph = helper.make_graph(nodes, "max", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "max.onnx")
    values = features(ROWS)
    real = Pipeline(foretell.load(str(tmp_path / "max.onnx")))
    predict(real, write_rows(tmp_path / "rows.csv", values), tmp_path / "answers.npy", FEW_ROWS)
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), real({"x": values})["y"])


def test_a_model_that_is_not_thread_safe_is_called_by_one_thread_at_a_time(tmp_path: Path) -> None:
    class Alone(Only):
        lock = threading.Lock()

        def forward(self, inputs: Arrays) -> Arrays:
            assert self.lock.acquire(blocking=False)
            try:
                return super().forward(inputs)
            finally:
                self.lock.release()

    source = write_rows(tmp_path / "rows.npy", features(500))
    report = predict(pipeline(Alone()), source, tmp_path / "answers.npy", FEW_ROWS)
    assert (report.rows, report.failed) == (500, 0)


def test_a_disk_that_fills_up_is_a_refusal_that_leaves_nothing(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.npy", features(5000))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        assert refused(tmp_path, source, tmp_path / "answers.ndjson").code == "wrong_target"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_a_device_is_not_renamed_onto(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.npy", features(3))
    (tmp_path / "pipe.csv").symlink_to("/dev/null")
    assert refused(tmp_path, source, tmp_path / "pipe.csv").code == "wrong_target"


def test_ctrl_c_tells_what_becomes_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    write_rows(tmp_path / "rows.csv", np.full((2000, 3), 7.0))
    words = ["predict", "slow.py:model", "rows.csv", "-o", "answers.csv", "--batch-rows", "1", "--workers", "1"]
    command = [sys.executable, "-m", "foretell", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert eventually((tmp_path / "called").exists)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("stopped: what was finished is kept beside answers.csv, and the same command goes on\n")
