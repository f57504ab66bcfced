"""`foretell predict` beside a plain loop of pandas or pyarrow chunks into the same onnxruntime session.

Makes CSV and Parquet files of 30 float columns in a temporary folder and a small network (30-64-32-2). Each side runs in
a process of its own, in turns, and is timed from opening the file to the last byte written; imports are not counted.
Peak memory is the process's largest resident set. The last table shows foretell on files of growing length.

    python benchmarks/predict.py                      # a million rows, 3 repeats
    python benchmarks/predict.py --rows 100000 --repeats 5 --no-growth
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

COLUMNS = 30
CHUNK_ROWS = 8192
GROUP_ROWS = 250_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--growth", action=argparse.BooleanOptionalAction, default=True, help="also 0.1, 1 and 4 times the rows"
    )
    parser.add_argument("--side", nargs=4, metavar=("SIDE", "MODEL", "IN", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        run_side(*arguments.side)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.rows, arguments.repeats)
        if arguments.growth:
            grow(Path(folder), arguments.rows)


def compare(folder: Path, rows: int, repeats: int) -> None:
    """Foretell and each loop in turns, so that a busy spell of the machine meets all of them."""
    model = make_model(folder)
    print(f"{rows:,} rows of {COLUMNS} floats, medians of {repeats} runs in turns\n")
    print(f"{'file':9}{'side':10}{'seconds':>9}{'rows/s':>12}{'peak MiB':>10}{'foretell / loop':>17}")
    for suffix in ("csv", "parquet"):
        source = make_rows(folder, suffix, rows)
        sides = ["foretell", "pyarrow", "pandas"]
        runs: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(repeats):
            for side in sides:
                runs[side].append(measure(side, model, source, folder / f"{side}.{suffix}"))
        for side in sides:
            seconds, peak = (statistics.median(values) for values in zip(*runs[side], strict=True))
            ratio = "" if side == "foretell" else f"{seconds / statistics.median(run[0] for run in runs['foretell']):.2f}"
            print(f"{suffix:9}{side:10}{seconds:9.2f}{rows / seconds:12,.0f}{peak:10.0f}{ratio:>17}", flush=True)
        source.unlink()


def grow(folder: Path, rows: int) -> None:
    model = make_model(folder)
    print(f"\n{'file':9}{'rows':>10}{'seconds':>9}{'peak MiB':>10}   foretell alone")
    for suffix in ("csv", "parquet"):
        for count in (rows // 10, rows, rows * 4):
            source = make_rows(folder, suffix, count)
            seconds, peak = measure("foretell", model, source, folder / f"growth.{suffix}")
            print(f"{suffix:9}{count:10,}{seconds:9.2f}{peak:10.0f}", flush=True)
            source.unlink()


def measure(side: str, model: Path, source: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak MiB of one side in a fresh process."""
    command = [sys.executable, __file__, "--side", side, str(model), str(source), str(target)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, peak = json.loads(answer)
    return seconds, peak


def run_side(side: str, model: str, source: str, target: str) -> None:
    sides = {"foretell": run_foretell, "pyarrow": run_loop, "pandas": run_loop}
    work = sides[side](side, Path(model), Path(source), Path(target))
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def run_foretell(side: str, model: Path, source: Path, target: Path) -> Callable[[], object]:
    from foretell import Pipeline, load
    from foretell.modes.files import predict
    from foretell.settings import PredictSettings

    pipeline = Pipeline(load(str(model)))
    return lambda: predict(pipeline, source, target, PredictSettings(batch_rows=CHUNK_ROWS))


def run_loop(side: str, model: Path, source: Path, target: Path) -> Callable[[], object]:
    """What one would write by hand: read a chunk, run the session, append the answers."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def answer(features: object) -> object:
        return session.run(["y"], {"x": features})[0]

    loops = {("csv", "pandas"): pandas_csv, ("parquet", "pandas"): pandas_parquet}
    loop = loops.get((source.suffix[1:], side), pyarrow_csv if source.suffix == ".csv" else pyarrow_parquet)
    return lambda: loop(answer, source, target)


def pandas_csv(answer: Callable[[object], object], source: Path, target: Path) -> None:
    import pandas

    for i, frame in enumerate(pandas.read_csv(source, chunksize=CHUNK_ROWS)):
        answers = pandas.DataFrame(answer(frame.to_numpy(dtype="float32")), columns=["y_0", "y_1"], index=frame.index)
        answers.to_csv(target, mode="a" if i else "w", header=not i, index_label="row")


def pandas_parquet(answer: Callable[[object], object], source: Path, target: Path) -> None:
    """pandas reads Parquet whole."""
    import pandas

    frame = pandas.read_parquet(source)
    pieces = [answer(frame[i : i + CHUNK_ROWS].to_numpy(dtype="float32")) for i in range(0, len(frame), CHUNK_ROWS)]
    pandas.concat([pandas.DataFrame(piece, columns=["y_0", "y_1"]) for piece in pieces]).to_parquet(target)


def pyarrow_csv(answer: Callable[[object], object], source: Path, target: Path) -> None:
    import pyarrow.csv

    reader = pyarrow.csv.open_csv(source)
    write_answers(answer, reader, lambda schema: pyarrow.csv.CSVWriter(target, schema))


def pyarrow_parquet(answer: Callable[[object], object], source: Path, target: Path) -> None:
    import pyarrow.parquet

    batches = pyarrow.parquet.ParquetFile(source).iter_batches(CHUNK_ROWS)
    write_answers(answer, batches, lambda schema: pyarrow.parquet.ParquetWriter(target, schema))


def write_answers(
    answer: Callable[[object], object], batches: Iterator[object], open_writer: Callable[[object], object]
) -> None:
    import numpy
    import pyarrow

    writer = None
    for batch in batches:
        features = numpy.column_stack([column.to_numpy() for column in batch.columns]).astype(numpy.float32)
        answers = answer(features)
        table = pyarrow.table({"y_0": answers[:, 0], "y_1": answers[:, 1]})
        writer = writer or open_writer(table.schema)
        writer.write_table(table)
    writer.close()


def make_rows(folder: Path, suffix: str, rows: int) -> Path:
    """A file of normal numbers, written in pieces."""
    import numpy
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    random = numpy.random.default_rng(0)
    path = folder / f"rows.{suffix}"
    schema = pyarrow.schema([(f"x_{i}", pyarrow.float64()) for i in range(COLUMNS)])
    open_writer = pyarrow.csv.CSVWriter if suffix == "csv" else pyarrow.parquet.ParquetWriter
    with open_writer(path, schema) as writer:
        for start in range(0, rows, GROUP_ROWS):
            count = min(GROUP_ROWS, rows - start)
            writer.write_table(pyarrow.table([random.standard_normal(count) for _ in range(COLUMNS)], schema=schema))
    return path


def make_model(folder: Path) -> Path:
    """30 -> 64 -> 32 -> 2 with ReLU between, weights at random."""
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = numpy.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    sizes = (COLUMNS, 64, 32, 2)
    for i, (taken, given) in enumerate(itertools.pairwise(sizes)):
        weights.append(numpy_helper.from_array(random.normal(0, 0.2, (taken, given)).astype(numpy.float32), f"w{i}"))
        final = i == len(sizes) - 2
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], ["y" if final else f"h{i}"]))
        if not final:
            nodes.append(helper.make_node("Relu", [f"h{i}"], [f"r{i}"]))
            last = f"r{i}"
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", COLUMNS])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, weights)
    path = folder / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


if __name__ == "__main__":
    main()
