"""ONNX to OpenVINO's IR, in single precision: the model in an .xml file, its weights in a .bin beside it."""

from pathlib import Path

from foretell.backends import ModelOptions
from foretell.backends.openvino import openvino, runtime
from foretell.formats.onnx import check_external_data


def convert(source: str, target: Path, options: ModelOptions) -> None:
    check_external_data(Path(source))
    openvino.save_model(runtime().read_model(source), str(target), compress_to_fp16=False)
