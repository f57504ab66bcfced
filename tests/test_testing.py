"""What users test with keeps its promises."""

import asyncio

import numpy as np
import pytest

from foretell.errors import Invalid
from foretell.pipeline import Pipeline
from foretell.tensors import Arrays, Signature, TensorSpec
from foretell.testing import SMALL, FakeBackend, FakeClock, InProcess, RecordingObserver


def test_in_process_answers_as_the_server_does_and_leaves_the_pipeline_open() -> None:
    backend = FakeBackend()
    pipeline = Pipeline(backend)
    for _ in range(2):
        with InProcess(pipeline) as client:
            assert client.predict({"x": [1.0, 2.0]})["predictions"] == [{"y": [3.0, 5.0]}]
            assert client.request("GET", "/v2/health/ready").status == 200
    assert not backend.closed


def test_in_process_shows_refusals_as_a_client_sees_them() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        response = client.request("POST", "/predict/m", b"[[1]]", {"content-type": "application/json"})
        assert (response.status, response.json()["code"]) == (400, "wrong_shape")


def test_the_fake_clock_jumps_to_the_next_timer() -> None:
    clock = FakeClock()

    async def main() -> str:
        await asyncio.sleep(3600)
        return "an hour later"

    assert clock.run(main()) == "an hour later"
    assert clock() == pytest.approx(4600.0)


def test_waiting_for_what_never_comes_is_an_error_and_not_a_hang() -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    async def ticking() -> None:
        while True:
            await asyncio.sleep(60)

    for main in (forever, ticking):
        with pytest.raises(RuntimeError):
            FakeClock().run(main())


def test_a_class_without_close_is_a_model_too() -> None:
    class Half:
        signature: Signature = SMALL

        def forward(self, inputs: Arrays) -> Arrays:
            return {"y": np.divide(inputs["x"], 2)}

    pipeline = Pipeline(Half())  # type: ignore[arg-type] # a user's class, which has nothing to close
    with InProcess(pipeline) as client:
        assert client.predict({"x": [1.0, 2.0]})["predictions"] == [{"y": [0.5, 1.0]}]
    pipeline.close()


def test_a_pipeline_takes_lists_and_with_one_input_its_bare_value() -> None:
    pipeline = Pipeline(FakeBackend())
    rows = np.array([[0.1, 2.0]], np.float32)
    for given in ({"x": rows}, rows, {"x": [[0.1, 2.0]]}, [[0.1, 2.0]]):
        np.testing.assert_array_equal(pipeline(given)["y"], rows * 2 + 1)


def test_lists_of_text_become_bytes() -> None:
    text = Signature((TensorSpec.parse("text", "BYTES"),), (TensorSpec.parse("text", "BYTES"),))
    pipeline = Pipeline(FakeBackend(lambda inputs: inputs, text))
    assert pipeline(["ä", "b"])["text"].tolist() == ["ä".encode(), b"b"]
    assert pipeline(np.array(["ä"]))["text"].tolist() == ["ä".encode()]


def test_an_array_that_would_lose_digits_is_refused_with_the_cure() -> None:
    with pytest.raises(Invalid, match=r"\.astype\('float32'\)"):
        Pipeline(FakeBackend())({"x": np.array([[0.1, 2.0]])})


def test_a_recording_observer_tells_how_each_request_ended() -> None:
    seen = RecordingObserver()
    assert seen.codes == []
