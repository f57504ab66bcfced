"""How fast bodies become arrays and back: ``python benchmarks/codecs.py``. Exits with 1 when a goal is missed.

Each time is the best of several runs of one thread, for a picture of 1x3x224x224 FP32 and for 65,536 short texts.
"""

import sys
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from foretell.backends.python import PythonModel
from foretell.elements import read_elements, write_elements
from foretell.engine.engine import Engine
from foretell.modes.http.numbers import decode_data
from foretell.modes.http.tensors import TensorDoor, write_tensor
from foretell.pipeline import Pipeline
from foretell.settings import EngineSettings
from foretell.tensors import Datatype, Signature, TensorSpec

SHAPE = (1, 3, 224, 224)
TEXTS = 65_536
ROUNDS = 25
BARE = "orjson.loads and numpy.asarray alone"
BINARY_MS = 0.2
JSON_TIMES = 1.5
TEXTS_MS = 30.0


def main() -> int:
    """Measure, print a table, and compare with the goals."""
    picture = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    texts = np.array([b"word %d" % number for number in range(TEXTS)], dtype=object)
    flat, nested = (_json_body(array) for array in (picture.reshape(-1), picture))
    header, binary = _binary_body(picture)
    door = _door()
    works: dict[str, Callable[[], object]] = {
        BARE: lambda: np.asarray(orjson.loads(flat)["inputs"][0]["data"]),
        "binary picture, decode": lambda: door.read_binary(header, binary, 0.0, 1.0),
        "JSON picture, decode": lambda: door.read(flat, b"", 0.0, 1.0),
        "JSON picture, nested, decode": lambda: door.read(nested, b"", 0.0, 1.0),
        "JSON picture, encode": lambda: write_tensor("x", picture),
        "texts in binary, both ways": lambda: _binary_texts(texts),
        "texts in JSON, both ways": lambda: _json_texts(texts),
    }
    took = _best_ms(works)
    goals = {"binary picture, decode": BINARY_MS, "texts in binary, both ways": TEXTS_MS, "texts in JSON, both ways": TEXTS_MS}
    goals |= dict.fromkeys(("JSON picture, decode", "JSON picture, nested, decode"), took[BARE] * JSON_TIMES)
    for name, each in took.items():
        goal = goals.get(name)
        verdict = "" if goal is None else f"  goal {goal:6.2f}  {'ok' if each < goal else 'MISSED'}"
        print(f"{name:<40} {each:7.3f} ms{verdict}")
    return int(any(took[name] >= goal for name, goal in goals.items()))


def _door() -> TensorDoor:
    signature = Signature((TensorSpec("x", Datatype.FP32, SHAPE[1:]),), (TensorSpec("y", Datatype.FP32, SHAPE[1:]),))
    return TensorDoor(Engine("m", "1", Pipeline(PythonModel(signature, lambda arrays: {"y": arrays["x"]})), EngineSettings()))


def _json_body(array: "np.ndarray[Any, Any]") -> bytes:
    data = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    return b'{"inputs":[{"name":"x","shape":[1,3,224,224],"datatype":"FP32","data":%b}]}' % data


def _binary_body(array: "np.ndarray[Any, Any]") -> tuple[bytes, bytes]:
    tensor = {"name": "x", "shape": SHAPE, "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes}}
    text = orjson.dumps({"inputs": [tensor]})
    return b"%d" % len(text), text + array.tobytes()


def _binary_texts(texts: "np.ndarray[Any, Any]") -> None:
    read_elements(write_elements(texts), Datatype.BYTES, [TEXTS], "x")


def _json_texts(texts: "np.ndarray[Any, Any]") -> None:
    written = write_tensor("x", texts)
    decode_data(written[written.index(b'"data":') + 7 : -1], Datatype.BYTES, "x")


def _best_ms(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The best time of each; all take turns, so that a busy machine is no worse for one than for another."""
    took = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            took[name] = min(took[name], timeit.timeit(work, number=1) * 1000)
    return took


if __name__ == "__main__":
    sys.exit(main())
