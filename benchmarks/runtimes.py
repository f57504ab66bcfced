"""The same model on every runtime that can hold it: latency of one row, and rows/s in batches, each on one thread.

python benchmarks/runtimes.py --out benchmarks        # writes runtimes.md and runtimes.svg there

What is not installed is left out, and named. All answer the same rows; how far they lie from the original is in the table.
"""

import argparse
import itertools
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from models import DENSE, write_model

from foretell.backends import Backend, ModelOptions, load_backend
from foretell.convert import convert

BATCH = 256
ROUNDS = 5
SECONDS = 0.3
"""Of one round of one measurement; the best round counts: others had the machine for themselves less."""
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Form:
    """One form of a model: what it is called, the packages that make and run it, and the file."""

    model: str
    runtime: str
    needs: tuple[str, ...]
    make: Callable[[Path], Path]
    backend: str | None = None


@dataclass(frozen=True)
class Figure:
    model: str
    runtime: str
    latency_us: float
    rows_per_s: float
    difference: float


def dense(name: str) -> Iterator[Form]:
    yield Form(f"{name}: dense {'-'.join(map(str, DENSE[name]))}", "onnxruntime", (), lambda folder: write_model(name, folder))
    model = f"{name}: dense {'-'.join(map(str, DENSE[name]))}"
    yield Form(model, "openvino, from ONNX", ("openvino",), lambda folder: folder / f"{name}.onnx", "openvino")
    yield Form(model, "openvino, from IR", ("openvino",), lambda folder: converted(folder / f"{name}.onnx", ".xml"))
    yield Form(model, "torch, exported", ("torch",), lambda folder: exported(folder, name))
    yield Form(model, "torch, TorchScript", ("torch",), lambda folder: scripted(folder, name), None)
    yield Form(model, "keras", ("tensorflow", "keras"), lambda folder: in_keras(folder, name))
    yield Form(model, "litert", ("tensorflow", "keras", "ai_edge_litert"), lambda folder: in_litert(folder, name))


def trees() -> Iterator[Form]:
    boosted = "100 trees on 30 columns, by XGBoost"
    yield Form(boosted, "xgboost", ("xgboost", "sklearn"), in_xgboost)
    yield Form(boosted, "onnxruntime", ("xgboost", "onnx"), lambda folder: converted(folder / "trees.json", ".onnx"))
    light = "100 trees on 30 columns, by LightGBM"
    yield Form(light, "lightgbm", ("lightgbm", "sklearn"), in_lightgbm)
    yield Form(light, "onnxruntime", ("lightgbm", "onnx"), lambda folder: converted(folder / "trees.txt", ".onnx"))


def converted(source: Path, suffix: str) -> Path:
    target = source.parent / f"{source.stem}{source.suffix[1:]}{suffix}"
    convert(str(source), target)
    return target


def layers(folder: Path, name: str) -> list[tuple[Numbers, Numbers]]:
    import onnx
    from onnx import numpy_helper

    stored = [numpy_helper.to_array(each) for each in onnx.load(folder / f"{name}.onnx").graph.initializer]
    return list(itertools.pairwise(stored))[::2]


def torch_net(folder: Path, name: str) -> Any:
    import torch

    parts: list[Any] = []
    for weight, bias in layers(folder, name):
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data, linear.bias.data = torch.tensor(weight.T.copy()), torch.tensor(bias.copy())
        parts += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1], torch.nn.Softmax(dim=-1)).eval()


def exported(folder: Path, name: str) -> Path:
    import torch

    rows = torch.export.Dim("rows", min=1)
    net, example = torch_net(folder, name), torch.zeros(2, DENSE[name][0])
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=({0: rows},)), folder / f"{name}.pt2")
    return folder / f"{name}.pt2"


def scripted(folder: Path, name: str) -> Path:
    import torch

    torch.jit.trace(torch_net(folder, name), torch.zeros(2, DENSE[name][0])).save(folder / f"{name}.pt")
    return folder / f"{name}.pt"


def keras_net(folder: Path, name: str) -> Any:
    import keras

    stored = layers(folder, name)
    kinds = ["relu"] * (len(stored) - 1) + ["softmax"]
    dense = [keras.layers.Dense(len(bias), activation=kind) for (_, bias), kind in zip(stored, kinds, strict=True)]
    net = keras.Sequential([keras.Input((DENSE[name][0],), name="input"), *dense])
    net.set_weights([array for pair in stored for array in pair])
    return net


def in_keras(folder: Path, name: str) -> Path:
    keras_net(folder, name).save(folder / f"{name}.keras")
    return folder / f"{name}.keras"


def in_litert(folder: Path, name: str) -> Path:
    import tensorflow

    target = folder / f"{name}.tflite"
    target.write_bytes(tensorflow.lite.TFLiteConverter.from_keras_model(keras_net(folder, name)).convert())
    return target


def table() -> tuple[Numbers, Numbers]:
    from sklearn.datasets import load_breast_cancer

    rows, labels = load_breast_cancer(return_X_y=True)
    return rows, labels


def in_xgboost(folder: Path) -> Path:
    import xgboost

    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 6}, xgboost.DMatrix(*table()), 100)
    booster.save_model(folder / "trees.json")
    return folder / "trees.json"


def in_lightgbm(folder: Path) -> Path:
    import lightgbm

    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, lightgbm.Dataset(*table()), 100)
    booster.save_model(folder / "trees.txt")
    return folder / "trees.txt"


def options(form: Form) -> ModelOptions:
    if form.runtime != "torch, TorchScript":
        return ModelOptions()
    sizes = DENSE[form.model.partition(":")[0]]
    signature = {"inputs": {"input": f"FP32[{sizes[0]}]"}, "outputs": {"output": f"FP32[{sizes[-1]}]"}}
    return ModelOptions(trust=True, options=signature)


def per_call(call: Callable[[], object]) -> float:
    """Seconds of one call: the median of a round, and of the rounds the best."""
    best = float("inf")
    for _ in range(ROUNDS):
        times, ends = [], time.perf_counter() + SECONDS
        while time.perf_counter() < ends or len(times) < 3:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        best = min(best, statistics.median(times))
    return best


def measure(form: Form, backend: Backend, rows: Numbers, original: dict[str, Numbers]) -> Figure:
    spec = backend.signature.inputs[0]
    batch = {spec.name: rows.astype(spec.dtype.numpy)}
    one = {spec.name: batch[spec.name][:1].copy()}
    answer = list(backend.forward(batch).values())[-1].astype(np.float64).reshape(len(rows), -1)
    want = original.setdefault(form.model, answer)
    latency, whole = per_call(lambda: backend.forward(one)), per_call(lambda: backend.forward(batch))
    return Figure(form.model, form.runtime, latency * 1e6, len(rows) / whole, float(np.abs(answer - want).max()))


def figures(left_out: list[str]) -> Iterator[Figure]:
    original: dict[str, Numbers] = {}
    rows = {True: table()[0][:BATCH]}
    with tempfile.TemporaryDirectory() as place:
        for form in (*dense("tiny"), *dense("mid"), *trees()):
            missing = [package for package in form.needs if find_spec(package) is None]
            if missing:
                left_out.append(f"{form.runtime} ({missing[0]} is not installed)")
                continue
            backend = load_backend(form.make(Path(place)), options(form), form.backend)
            wide = (backend.signature.inputs[0].shape[0] or 0, "dense" in form.model)
            given = np.random.default_rng(0).normal(size=(BATCH, wide[0])) if wide[1] else rows[True]
            yield measure(form, backend, given, original)
            backend.close()


def markdown(found: list[Figure], left_out: list[str]) -> str:
    packages = ("onnxruntime", "openvino", "torch", "tensorflow-cpu", "ai-edge-litert", "xgboost-cpu", "lightgbm")
    lines = [
        f"One thread, {platform.machine()}; one row alone, and batches of {BATCH} rows.",
        f"Releases: {', '.join(releases(packages))}.",
        "",
        "| model | runtime | latency of one row, µs | rows/s | largest difference |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {each.model} | {each.runtime} | {each.latency_us:,.0f} | {each.rows_per_s:,.0f} | {each.difference:.1g} |"
        for each in found
    ]
    return "\n".join([*lines, *(["", f"Left out: {', '.join(dict.fromkeys(left_out))}."] if left_out else []), ""])


def releases(packages: tuple[str, ...]) -> Iterator[str]:
    for package in packages:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def plot(found: list[Figure], target: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    models = list(dict.fromkeys(each.model for each in found))
    counts = [sum(each.model == model for each in found) for model in models]
    figure, axes = pyplot.subplots(
        len(models), 2, figsize=(10, 1.2 + 0.45 * len(found)), squeeze=False, layout="constrained", height_ratios=counts
    )
    for row, model in zip(axes, models, strict=True):
        mine = [each for each in found if each.model == model][::-1]
        names = [each.runtime for each in mine]
        for axis, values, title in (
            (row[0], [each.latency_us for each in mine], "µs for one row (less is better)"),
            (row[1], [each.rows_per_s / 1e3 for each in mine], "thousand rows/s (more is better)"),
        ):
            axis.bar_label(axis.barh(names, values, color="#4878a8"), fmt="{:,.0f}", padding=3, fontsize=8)
            axis.set_title(f"{model}\n{title}", fontsize=9, loc="left")
            axis.spines[["top", "right"]].set_visible(False)
            axis.margins(x=0.15)
    figure.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder to write runtimes.md and runtimes.svg to")
    out = parser.parse_args().out
    warnings.simplefilter("ignore")
    left_out: list[str] = []
    found = []
    for each in figures(left_out):
        found.append(each)
        print(f"{each.model:45} {each.runtime:22} {each.latency_us:10,.0f} µs {each.rows_per_s:12,.0f} rows/s", flush=True)
    if out is not None:
        (out / "runtimes.md").write_text(markdown(found, left_out), encoding="utf-8")
        plot(found, out / "runtimes.svg")
    print(*dict.fromkeys(left_out), sep="\n")


if __name__ == "__main__":
    main()
