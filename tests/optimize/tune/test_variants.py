"""What is said of a runtime that does not take a model."""

from pathlib import Path

from foretell.errors import Setup
from foretell.optimize.tune.variants import refusal

FOLDER = Path("/tmp/foretell-tune-1/openvino")


def broken(reason: str) -> Setup:
    """As the backends refuse a file."""
    try:
        raise Setup("broken_model", f"{FOLDER}/model.onnx cannot be loaded: check that the file is complete") from OSError(
            reason
        )
    except Setup as error:
        return error


def test_an_operator_that_a_runtime_lacks_is_named_without_the_file() -> None:
    said = "Exception from core:\nSummary:\n-- No conversion rule found for operations: ai.onnx.ml.TreeEnsembleClassifier\n\n"
    told = refusal("openvino", broken(said), FOLDER)
    assert told == "openvino has no operator ai.onnx.ml.TreeEnsembleClassifier, which the model needs"


def test_another_reason_is_told_without_the_folder_that_is_gone_by_then() -> None:
    told = refusal("openvino", broken(f"{FOLDER}/model.onnx: odd axes"), FOLDER)
    assert told == "openvino cannot compute the model (model.onnx: odd axes)"
