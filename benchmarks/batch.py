"""`foretell predict` at scale: beside a hand-written pyarrow loop, on one core and on all, in growing files, over images.

Every side runs in a process of its own, in turns, so that a busy spell of the machine meets all of them; a ratio is that of the
medians. Peak memory is the process's largest resident set.

    python benchmarks/batch.py                              # all of it, with 10 million rows: 9 GB of temporary files
    python benchmarks/batch.py loop --rows 1000000          # rows a second beside the loop
    python benchmarks/batch.py cores --rows 1000000         # all cores beside one core, and beside one worker that has them all
    python benchmarks/batch.py growth --rows 1000000        # seconds and peak memory of a tenth, and of all
    python benchmarks/batch.py images --images 400          # a folder of images beside a serial loop
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import predict as small

from foretell.cli.reading import have_arrow_hold_less

SIDE = 640
STEPS = """
[[preprocess]]
step = "image.decode"
mode = "RGB"
height = 64
width = 64
[[preprocess]]
step = "image.normalise"
scale = 1.0
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help="loop, cores, growth, images; none is all")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where to put the temporary files")
    parser.add_argument("--side", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        run_side(*arguments.side)
        return
    parts = arguments.parts or ["loop", "cores", "growth", "images"]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for suffix in ("csv", "parquet"):
            if set(parts) & {"loop", "cores", "growth"}:
                measure_tables(folder, suffix, parts, arguments)
        if "images" in parts:
            measure_images(folder, arguments.images, arguments.repeats)


def measure_tables(folder: Path, suffix: str, parts: list[str], arguments: argparse.Namespace) -> None:
    model, rows, repeats = small.make_model(folder), arguments.rows, arguments.repeats
    source = small.make_rows(folder, suffix, rows)
    if "loop" in parts:
        compare(f"{suffix}, {rows:,} rows", ("foretell", "pyarrow"), repeats, rows, suffix, model, source)
    if "cores" in parts:
        title = f"{suffix}, {rows:,} rows"
        compare(title, ("foretell", "foretell-core", "foretell-worker"), repeats, rows, suffix, model, source)
        compare_cores(title, repeats, model, source)
    source.unlink()
    if "growth" in parts:
        for count in (rows // 10, rows):
            source = small.make_rows(folder, suffix, count)
            seconds, peak = measure("foretell", model, source, folder / f"out.{suffix}")
            print(f"{suffix}, {count:,} rows: {seconds:.1f} s, peak {peak:.0f} MiB", flush=True)
            source.unlink()


def measure_images(folder: Path, count: int, repeats: int) -> None:
    make_images(folder / "images", count)
    model = make_image_model(folder)
    compare(f"{count} images", ("images", "images-serial"), repeats, count, "csv", model, folder / "images")


def compare(title: str, sides: tuple[str, ...], repeats: int, rows: int, suffix: str, model: Path, source: Path) -> None:
    """Sides in turns; a ratio is how many times as fast the first is as another."""
    runs: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            runs[side].append(measure(side, model, source, model.parent / f"{side}.{suffix}"))
    for side in sides:
        seconds, peak = (statistics.median(values) for values in zip(*runs[side], strict=True))
        print(f"{title}: {side:15} {seconds:8.2f} s {rows / seconds:12,.0f} rows/s, peak {peak:.0f} MiB")
    first, *others = (statistics.median(run[0] for run in runs[side]) for side in sides)
    for side, other in zip(sides[1:], others, strict=True):
        print(f"{title}: {sides[0]} is {other / first:.2f} times as fast as {side}", flush=True)


def compare_cores(title: str, repeats: int, model: Path, source: Path) -> None:
    """Whole runs side by side, each on a core of its own: as much as the machine lets all its cores do of this work."""
    alone, together = [], []
    places = [str(source.with_name(f"core{number}{source.suffix}")) for number in os.sched_getaffinity(0)]
    for _ in range(repeats):
        alone.append(measure("foretell-core", model, source, Path(places[0]))[0])
        runs = [start("foretell-core", model, source, place, number) for number, place in enumerate(places)]
        together.append(max(finish(run)[0] for run in runs))
    times = len(places) * statistics.median(alone) / statistics.median(together)
    print(f"{title}: a run on each core at once does {times:.2f} times the work of one", flush=True)


def measure(side: str, model: Path, source: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak MiB of one side in a fresh process."""
    return finish(start(side, model, source, str(target)))


def start(side: str, model: Path, source: Path, target: str, core: int = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--side", side, str(model), str(source), target, str(core)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(run: "subprocess.Popen[str]") -> tuple[float, float]:
    """Raises CalledProcessError for one that failed."""
    told = run.communicate()[0]
    if run.returncode:
        raise subprocess.CalledProcessError(run.returncode, run.args)
    seconds, peak = json.loads(told)
    return seconds, peak


def run_side(side: str, model: str, source: str, target: str, core: str) -> None:
    sides: dict[str, Callable[[], Callable[[], object]]] = {
        "foretell": lambda: run_foretell(model, source, target),
        "foretell-core": lambda: run_foretell(model, source, target),
        "foretell-worker": lambda: run_foretell(model, source, target, workers=1),
        "pyarrow": lambda: small.run_loop("pyarrow", Path(model), Path(source), Path(target)),
        "images": lambda: run_foretell(model, source, target),
        "images-serial": lambda: run_serial(model, source, target),
    }
    if side == "foretell-core":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(core)]})
    work = sides[side]()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def run_foretell(model: str, source: str, target: str, workers: int = 0) -> Callable[[], object]:
    have_arrow_hold_less()  # as the command does
    from foretell.modes.files import predict
    from foretell.repository import open_pipeline
    from foretell.settings import PredictSettings

    pipeline = open_pipeline(model)
    return lambda: predict(pipeline, source, target, PredictSettings(workers=workers))


def run_serial(model: str, source: str, target: str) -> Callable[[], object]:
    """Decode an image, ask the model, append a line; then the next."""
    import numpy
    import onnxruntime
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(f"{model}/1/model.onnx", options, providers=["CPUExecutionProvider"])

    def work() -> None:
        with Path(target).open("w") as out:
            for row, path in enumerate(sorted(Path(source).iterdir())):
                image = Image.open(path).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
                pixels = numpy.asarray(image, numpy.float32)[None]
                answer = session.run(["y"], {"x": pixels})[0]
                out.write(f"{row},{path.name}," + ",".join(map(str, answer[0])) + "\n")

    return work


def make_images(folder: Path, count: int) -> None:
    import numpy
    from PIL import Image

    folder.mkdir()
    random = numpy.random.default_rng(0)
    for at in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=numpy.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{at:05}.jpg", quality=90)


def make_image_model(folder: Path) -> Path:
    """A model folder: decode, resize, three convolutions."""
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = numpy.random.default_rng(0)
    nodes = [helper.make_node("Transpose", ["x"], ["t0"], perm=[0, 3, 1, 2])]
    weights, channels = [], (3, 32, 64, 64)
    for i in range(3):
        kernel = random.normal(0, 0.1, (channels[i + 1], channels[i], 3, 3)).astype(numpy.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{i}"))
        nodes.append(helper.make_node("Conv", [f"t{i}", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1], strides=[1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"t{i + 1}"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["t3"], ["g"]))
    nodes.append(helper.make_node("Flatten", ["g"], ["y"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64, 64, 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 64])]
    graph = helper.make_graph(nodes, "images", inputs, outputs, weights)
    path = folder / "image_model"
    (path / "1").mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path / "1" / "model.onnx")
    (path / "pipeline.toml").write_text(STEPS)
    return path


if __name__ == "__main__":
    main()
