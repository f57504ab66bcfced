"""Small models for these tests, and the tables they read."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foretell.modes.files.rows import STANDARD, Answers, Sheet, Source
from foretell.pipeline import Pipeline
from foretell.settings import PredictSettings
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

ONE_WORKER = PredictSettings(batch_rows=16, workers=1)
FEW_ROWS = PredictSettings(batch_rows=7, workers=3)
X3 = TensorSpec("x", Datatype.FP32, (3,))


class Sum:
    """y = the sum of a row of x, z = its values doubled. Refuses a chunk that holds the value 666."""

    signature = Signature((X3,), (TensorSpec("y", Datatype.FP32), TensorSpec("z", Datatype.FP32, (3,))))

    def forward(self, inputs: Arrays) -> Arrays:
        x = np.asarray(inputs["x"], dtype=np.float32)
        if (x == 666).any():
            raise ValueError("the beast")
        return {"y": x.sum(axis=1), "z": x * np.float32(2)}

    def close(self) -> None:
        return None


class Only:
    """y alone, for .npy."""

    signature = Signature((X3,), (TensorSpec("z", Datatype.FP32, (3,)),))

    def forward(self, inputs: Arrays) -> Arrays:
        return {"z": Sum().forward(inputs)["z"]}

    def close(self) -> None:
        return None


class Mirror:
    """Gives back what it is given, whatever its signature."""

    def __init__(self, *specs: TensorSpec, rows: bool = True) -> None:
        self.signature = Signature(specs, tuple(TensorSpec(f"{spec.name}_out", spec.dtype, spec.shape) for spec in specs), rows)

    def forward(self, inputs: Arrays) -> Arrays:
        return {f"{name}_out": array for name, array in inputs.items()}

    def close(self) -> None:
        return None


def pipeline(model: Any) -> Pipeline:
    return Pipeline(model)


def features(rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(7).normal(size=(rows, 3)).astype(np.float32)


def table(values: np.ndarray[Any, Any]) -> Any:
    return pa.table({f"x_{i}": values[:, i] for i in range(values.shape[1])})


def source_of(model: Any, path: Path = STANDARD, chunk_rows: int = 16) -> Source:
    return Source(path, model.signature, chunk_rows)


def sheet_of(model: Any, stream: Any) -> Sheet:
    return Sheet(stream, model.signature, "ndjson")


def answers_of(**outputs: Any) -> Answers:
    count = len(next(iter(outputs.values())))
    return Answers(np.arange(count), outputs)
