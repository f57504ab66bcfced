"""Sizes, operations and times, against models whose cost is known."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from foretell.backends import load_backend
from foretell.evidence.energy import find_meter
from foretell.evidence.graph import cost_of
from foretell.evidence.measure import Call, Served, Subject, measure, size_on_disk, undisturbed
from tests.backends.graphs import build, convolution, dynamically_quantized, linear, save, tensor
from tests.evidence.simple import classifier, rows


def test_operations_of_a_matrix_product_are_two_for_each_weight(tmp_path: Path) -> None:
    cost = cost_of(classifier(tmp_path), {"x": rows(1)})
    assert cost.parameters == 12
    assert cost.flops == 2 * 12 + 3  # and one for each of three softmaxes


def test_operations_of_a_convolution_count_every_place_of_its_filters(tmp_path: Path) -> None:
    save(convolution(), tmp_path / "model.onnx")
    cost = cost_of(tmp_path / "model.onnx", {"x": np.zeros((1, 3, 8, 8), np.float32)})
    places = 8 * 8
    products = 2 * places * 16 * (3 * 9 + 16 * 9)
    assert cost.parameters == 16 * 27 + 16 * 144
    assert cost.flops == products + 16 * places + 16  # relu, and the mean's results


def test_a_fixed_number_of_rows_is_counted_as_one_row(tmp_path: Path) -> None:
    save(linear(8), tmp_path / "model.onnx")
    assert cost_of(tmp_path / "model.onnx", {"x": rows(1)}).flops == 2 * 12 + 3


def test_the_size_is_that_of_the_file_and_its_data_files(tmp_path: Path) -> None:
    from onnx import load, save_model

    save(linear(), tmp_path / "whole.onnx")
    save_model(
        load(tmp_path / "whole.onnx"),
        tmp_path / "split.onnx",
        save_as_external_data=True,
        location="split.data",
        size_threshold=0,
    )
    files = [tmp_path / "split.onnx", tmp_path / "split.data"]
    assert size_on_disk(tmp_path / "split.onnx") == sum(file.stat().st_size for file in files)


def _product(folder: Path, times: int) -> Subject:
    """So many products of a row with a matrix of 256 x 256."""
    nodes = [helper.make_node("MatMul", ["x" if not i else f"h{i}", "w"], [f"h{i + 1}"]) for i in range(times - 1)]
    nodes.append(helper.make_node("MatMul", [f"h{times - 1}" if times > 1 else "x", "w"], ["y"]))
    stored = [numpy_helper.from_array(np.eye(256, dtype=np.float32), "w")]
    path = folder / f"{times}.onnx"
    save(build(nodes, [tensor("x", ["n", 256])], [tensor("y", ["n", 256])], stored), path)
    return Subject(load_backend(path), path)


def test_a_model_that_does_a_tenth_of_the_work_is_found_to_be_faster(tmp_path: Path) -> None:
    subjects = [_product(tmp_path, 20), _product(tmp_path, 2)]
    figures, gains = measure(subjects, {"x": np.ones((64, 256), np.float32)}, 0.05)
    assert figures[0].p50_1_s > 2 * figures[1].p50_1_s
    assert gains["latency"][1].ratio == pytest.approx(figures[0].p50_1_s / figures[1].p50_1_s)
    assert gains["throughput"][1].ratio > 2
    assert gains["throughput"][1].interval[0] <= gains["throughput"][1].ratio <= gains["throughput"][1].interval[1]
    assert gains["latency"][0].ratio == 1.0


def test_a_model_whose_rows_disturb_each_other_is_run_row_by_row(tmp_path: Path) -> None:
    save(dynamically_quantized(), tmp_path / "model.onnx")
    model = load_backend(tmp_path / "model.onnx")
    few = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32) * np.array([[1], [100], [1], [1], [1]], np.float32)
    alone = np.concatenate([model.forward({"x": few[i : i + 1]})["y"] for i in range(5)])
    assert np.array_equal(Served.of(model).forward({"x": few})["y"], alone)
    assert not np.array_equal(model.forward({"x": few})["y"], alone)


def test_calls_whose_processor_was_taken_away_do_not_count() -> None:
    rounds = [[Call(1.0, 1.0), Call(9.0, 1.0)]] * 8
    assert undisturbed(rounds, True) == ([1.0] * 8, False)


def test_where_it_was_always_taken_away_the_time_of_the_processor_counts_and_that_is_told() -> None:
    assert undisturbed([[Call(9.0, 2.0)]] * 8, True) == ([2.0] * 8, True)


def test_all_calls_count_of_a_model_that_computes_elsewhere() -> None:
    assert undisturbed([[Call(2.0, 0.1)]] * 8, False) == ([2.0] * 8, False)


def test_energy_is_the_sum_of_the_packages_and_begins_anew_at_the_end_of_a_counter(tmp_path: Path) -> None:
    for name, micro in (("intel-rapl:0", 900), ("intel-rapl:1", 100), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(str(micro))
        (tmp_path / name / "max_energy_range_uj").write_text("1000")
    meter = find_meter(tmp_path)
    before = meter.read_j()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("300")
    assert meter.between(before, meter.read_j()) == pytest.approx(350e-6)


def test_without_counters_energy_is_not_told(tmp_path: Path) -> None:
    meter = find_meter(tmp_path)
    assert meter.between(meter.read_j(), meter.read_j()) is None
