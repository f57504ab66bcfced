"""Both clients against a real server: every call, every datatype, many threads, and its refusals as exceptions."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import foretell.demo
from foretell.client import AsyncClient, Client, Options, Retry
from foretell.client.refusals import refusal_of
from foretell.client.wire import Answer
from foretell.codes import CODES
from foretell.errors import Broken, Busy, Invalid, Late, Missing, TooLarge
from foretell.tensors import Array, Datatype
from tests.client.troubled import Connect
from tests.serving import MODELS, Served, serving

ROOT = Path(__file__).parent.parent.parent
LIMITS = {
    Datatype.FP16: (65504.0, 2.0**-24),
    Datatype.BF16: (3.3895313892515355e38, 2.0**-133),
    Datatype.FP32: (3.4028234663852886e38, 2.0**-149),
    Datatype.FP64: (1.7976931348623157e308, 5e-324),
}
"""The largest value of each, and the smallest above 0."""
KINDS = [str(datatype) for datatype in Datatype]
ECHO = f"""
KINDS = {KINDS}

@foretell.model(
    inputs={{name.lower(): name + "[?]" for name in KINDS}},
    outputs={{name.lower() + "_back": name + "[?]" for name in KINDS}},
)
def model(arrays):
    return {{name + "_back": array for name, array in arrays.items()}}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = Path(foretell.demo.__file__).parent / "models"
    with serving(tmp_path_factory.mktemp("client"), models={**MODELS, "echo": ECHO}, paths=[models]) as server:
        yield server


@pytest.fixture
def url(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}"


def one_of_each() -> dict[str, Array]:
    """Two rows of three awkward values for each datatype."""
    arrays: dict[str, Array] = {}
    for datatype in Datatype:
        if datatype is Datatype.BYTES:
            values: Array = np.array([[b"", b"\x00\xff", "é".encode()], [b"a" * 70_000, b"\n", b'"']], np.object_)
        elif datatype is Datatype.BOOL:
            values = np.array([[True, False, True], [False, False, True]])
        elif datatype.is_integer:
            info = np.iinfo(str(datatype).lower())
            values = np.array([[info.min, info.max, 0], [1, 2, 3]], datatype.numpy)
        else:
            most, least = LIMITS[datatype]
            values = np.array([[most, least, -0.0], [np.nan, np.inf, 1 / 3]]).astype(datatype.numpy)
        arrays[str(datatype).lower()] = values
    return arrays


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_every_datatype_goes_there_and_back(binary: bool, url: str, connect: Connect) -> None:
    sent = one_of_each()
    with connect(url, binary=binary) as client:
        back = client.infer("echo", sent)
    for name, array in sent.items():
        got = back[f"{name}_back"]
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        if array.dtype == object:
            assert got.tolist() == array.tolist()
        else:
            assert got.tobytes() == array.tobytes(), name


def test_outputs_may_be_asked_for_by_name(url: str, connect: Connect) -> None:
    with connect(url) as client:
        assert set(client.infer("double", {"x": np.ones((2, 2), np.float32)}, outputs=["sum"])) == {"sum"}


def test_outputs_can_be_written_to(url: str, connect: Connect) -> None:
    with connect(url) as client:
        y = client.infer("double", {"x": np.ones((2, 2), np.float32)})["y"]
    y += 1
    assert y.tolist() == [[4.0, 4.0], [4.0, 4.0]]


def test_rows_and_images_are_predicted(url: str, connect: Connect) -> None:
    inputs = Path(foretell.demo.__file__).parent / "inputs"
    image = (inputs / "seven-28px-grey.png").read_bytes()
    row = orjson.loads((inputs / "phishing.json").read_bytes())
    with connect(url) as client:
        assert client.predict("digits", image, content_type="image/png")[0]["label"][0] == "7"
        for rows in ([image, image], [{"image": image}] * 2):
            assert [each["label"][0] for each in client.predict("digits", rows)] == ["7", "7"]
        assert client.predict("threat", row)[0]["verdict"] == "phishing"
        assert client.predict("double", [{"x": np.array([1, 2])}]) == [{"y": [3.0, 5.0], "sum": 3.0}]
        with pytest.raises(Invalid, match="content_type"):
            client.predict("digits", image)


def test_what_is_served_is_told(url: str, connect: Connect) -> None:
    with connect(url) as client:
        assert client.is_ready()
        assert client.is_ready("double", version="1")
        assert {model["name"] for model in client.models()} >= {"double", "echo", "digits"}
        assert client.metadata("double")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
        with pytest.raises(Missing) as caught:
            client.is_ready("doble")
    assert caught.value.code == "unknown_model"


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_a_refusal_is_the_exception_that_the_server_raised(binary: bool, url: str, connect: Connect) -> None:
    with connect(url, binary=binary) as client:
        with pytest.raises(Invalid) as wrong:
            client.infer("double", {"x": np.ones((2, 3), np.float32)})
        with pytest.raises(Missing, match="doble"):
            client.infer("doble", {"x": np.ones((2, 2), np.float32)})
        with pytest.raises(Broken) as failed:
            client.infer("double", {"x": np.full((1, 2), -666, np.float32)})
    assert wrong.value.code == "wrong_shape"
    assert wrong.value.details["got"] == [2, 3]
    assert re.fullmatch("[0-9a-f]+", str(failed.value.details["error_id"]))
    assert "shadow" not in failed.value.message


def test_the_server_gives_up_when_the_time_is_over_and_begins_nothing_that_would_be_late(url: str, connect: Connect) -> None:
    with connect(url, retry=Retry(most=0)) as client:
        client.infer("slow", {"seconds": np.array([0.0], np.float32)})  # what was asked before is done
        with pytest.raises(Late):
            client.infer("slow", {"seconds": np.array([1.5], np.float32)}, timeout_s=0.4)
        with pytest.raises(Busy) as refused:
            client.infer("slow", {"seconds": np.array([0.0], np.float32)}, timeout_s=0.2)
    assert refused.value.code == "overloaded"


def test_a_refusal_before_all_was_sent_is_not_missed(lane_server: Served, connect: Connect) -> None:
    with connect(f"http://127.0.0.1:{lane_server.port}") as client, pytest.raises(TooLarge) as caught:
        client.infer("double", {"x": np.zeros((2_000_000, 2), np.float32)})
    assert caught.value.details["limit"] == 1_000_000


@pytest.mark.parametrize("connections", [64, 4])
def test_32_threads_share_a_client_and_nobody_gets_the_answer_of_another(connections: int, url: str) -> None:
    with Client(url, options=Options(connections=connections)) as client, ThreadPoolExecutor(32) as threads:

        def ask(number: int) -> list[float]:
            return [asked(client.infer("double", tagged(number * 50 + turn))) for turn in range(50)]

        got = list(threads.map(ask, range(32)))
    assert got == [[2.0 * (number * 50 + turn) + 1 for turn in range(50)] for number in range(32)]


@pytest.mark.parametrize("connections", [64, 4])
def test_32_tasks_share_a_client_and_nobody_gets_the_answer_of_another(connections: int, url: str) -> None:
    async def main() -> list[list[float]]:
        async with AsyncClient(url, options=Options(connections=connections)) as client:

            async def ask(number: int) -> list[float]:
                return [asked(await client.infer("double", tagged(number * 50 + turn))) for turn in range(50)]

            return await asyncio.gather(*map(ask, range(32)))

    assert asyncio.run(main()) == [[2.0 * (number * 50 + turn) + 1 for turn in range(50)] for number in range(32)]


def tagged(number: int) -> dict[str, Array]:
    return {"x": np.full((1, 2), number, np.float32)}


def asked(outputs: dict[str, Array]) -> float:
    return float(outputs["y"][0, 0])


def test_a_cancelled_task_leaves_no_connection_for_the_next(url: str) -> None:
    async def main() -> None:
        async with AsyncClient(url, options=Options(connections=1)) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.infer("slow", {"seconds": np.array([0.5], np.float32)})
            assert asked(await client.infer("double", tagged(4))) == 9.0

    asyncio.run(main())


@pytest.mark.parametrize("code", CODES)
def test_every_code_comes_back_as_its_class(code: str) -> None:
    said: dict[str, Any] = {"error": "a sentence", "code": code, "message": 1, "self": 2, "input": "x"}
    error = refusal_of(Answer(418, {"retry-after": "3"}, bytearray(orjson.dumps(said))))
    assert type(error) is CODES[code][0]
    assert (error.code, error.message) == (code, "a sentence")
    assert error.details == {"message": 1, "self": 2, "input": "x", "status": 418, "retry_after_s": 3.0}


def test_a_code_of_a_newer_server_comes_back_as_the_class_of_its_status() -> None:
    error = refusal_of(Answer(429, {}, bytearray(b'{"error":"too much","code":"brand_new"}')))
    assert (type(error).__name__, getattr(error, "code", None)) == ("Busy", "brand_new")


def test_the_client_loads_neither_a_runtime_nor_a_server() -> None:
    line = "import sys, foretell.client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & {"onnxruntime", "uvicorn", "starlette", "httpx2", "requests", "click", "rich", "prometheus_client"}


def test_the_examples_of_the_page_run(url: str) -> None:
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        code = example.replace("http://127.0.0.1:8000", url)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), example
        expected = re.findall(r"# prints (.*)", example)
        assert done.stdout.splitlines() == expected, example
