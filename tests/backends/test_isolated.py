"""A model in a process of its own: what crosses, and what happens when the process does not live on."""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.backends import ModelOptions, isolated_parts, load_backend
from foretell.backends.chain import Link, chain
from foretell.backends.isolated import IsolatedModel
from foretell.backends.isolated.child import Order
from foretell.backends.isolated.process import ModelError
from foretell.backends.isolated.wire import FIRST_BYTES, KEPT_BYTES, Lost, Memory
from foretell.errors import Broken, Invalid, Setup, Unavailable
from foretell.pipeline import Pipeline
from foretell.repository import open_pipeline
from foretell.tensors import Arrays, Datatype, TensorSpec
from tests.serving import eventually

CODE = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
import foretell
from foretell.errors import Invalid

HERE = Path(__file__).parent
while (HERE / "hold").exists():
    time.sleep(0.005)
if (HERE / "die").exists():
    os._exit(9)

@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]", "pid": "INT64"})
def model(arrays):
    x = arrays["x"]
    code = float(x.min())
    if code == -1:
        os._exit(3)
    if code == -2:
        os.kill(os.getpid(), signal.SIGSEGV)
    if code == -3:
        raise ValueError("nothing below -2")
    if code == -4:
        (HERE / "busy").touch()
        time.sleep(1000)
    if code == -5:
        return {"y": x}
    if code == -8:
        raise Invalid("too_odd", "no odd rows", where=HERE, rows=[1])
    if code == -6:
        sys.exit(0)
    if code == -7:
        x[:] = 0
    return {"y": x * 2 + 1, "pid": np.full(len(x), os.getpid())}

@foretell.model(inputs={"n": "INT64"}, outputs={"out": "UINT8[?]"})
def large(arrays):
    return {"out": np.ones((len(arrays["n"]), int(arrays["n"][0])), np.uint8)}

whole = foretell.Pipeline(model=model)
"""
COUNTING = """
import numpy as np
import foretell
calls = 0

@foretell.model(inputs={"x": "FP32"}, outputs={"calls": "INT64"})
def model(arrays):
    global calls
    calls += 1
    return {"calls": np.full(len(arrays["x"]), calls)}
"""
Load = Callable[..., IsolatedModel]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(CODE)
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Iterator[Load]:
    """Starts ``app.py:ATTRIBUTE``, with pauses between crashes that a test can wait for."""
    models: list[IsolatedModel] = []

    def start(attribute: str = "model") -> IsolatedModel:
        order = Order(f"{folder / 'app.py'}:{attribute}", None, ModelOptions(), 30)
        models.append(IsolatedModel(order, pauses_s=(0.0,)))
        models[-1].start()
        return models[-1]

    yield start
    for model in models:
        model.close()


def x(*values: float) -> Arrays:
    return {"x": np.array([[value, value] for value in values], np.float32)}


def pid_of(model: IsolatedModel) -> int:
    return int(np.ravel(model.forward(x(1.0))["pid"])[0])


def answers(model: IsolatedModel) -> bool:
    """Whether its process is there, and answers."""
    try:
        pid_of(model)
    except Unavailable:
        return False
    return True


def hang(model: IsolatedModel) -> tuple[threading.Thread, list[Unavailable]]:
    """A thread that waits for a call which never ends, and where its error is put."""
    errors: list[Unavailable] = []

    def run() -> None:
        try:
            model.forward(x(-4.0))
        except Unavailable as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def ended(pid: int) -> bool:
    """Whether a process is gone, and no zombie either."""
    return not Path(f"/proc/{pid}").exists()


def test_the_model_runs_in_another_process(load: Load) -> None:
    model = load()
    answers = model.forward(x(1.0, 2.0))
    np.testing.assert_array_equal(answers["y"], [[3, 3], [5, 5]])
    assert os.getpid() not in answers["pid"]
    assert model.facts["isolation"] == "a process of its own"


def test_an_exception_is_told_with_the_place_where_it_was_raised_and_the_process_goes_on(load: Load) -> None:
    model = load()
    pid = pid_of(model)
    with pytest.raises(ModelError, match=r"^ValueError: nothing below -2") as raised:
        model.forward(x(-3.0))
    assert "app.py" in "".join(raised.value.__notes__)
    assert pid_of(model) == pid


def test_our_own_errors_keep_their_code(load: Load) -> None:
    with pytest.raises(Broken, match="signature has an output 'pid'") as raised:
        load().forward(x(-5.0))
    assert raised.value.code == "wrong_output"


def test_a_models_own_refusals_keep_class_code_and_details(load: Load, folder: Path) -> None:
    with pytest.raises(Invalid, match="no odd rows") as raised:
        load().forward(x(-8.0))
    assert raised.value.code == "too_odd"
    assert raised.value.details == {"where": str(folder), "rows": [1]}


def test_options_that_no_message_can_hold_are_refused(folder: Path) -> None:
    options = ModelOptions(isolated=True, options={"device": object()})
    with pytest.raises(Setup, match="its options cannot be told to another process") as refusal:
        load_backend(f"{folder / 'app.py'}:model", options)
    assert refusal.value.code == "wrong_setting"


@pytest.mark.parametrize("code", [-1.0, -2.0, -6.0])
def test_a_crash_is_a_503_for_what_was_in_it_and_another_process_takes_over(code: float, load: Load) -> None:
    model = load()
    pid = pid_of(model)
    with pytest.raises(Unavailable, match="ended while it computed this: try again") as refusal:
        model.forward(x(code))
    assert refusal.value.code == "model_crashed"
    assert refusal.value.details["retry_after_s"] == 1
    assert eventually(lambda: answers(model))
    assert pid_of(model) != pid
    assert ended(pid)


def test_a_process_that_is_killed_while_idle_is_replaced_before_anybody_asks(load: Load) -> None:
    model = load()
    pid = pid_of(model)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: ended(pid) and answers(model))
    assert pid_of(model) != pid


def test_while_another_process_starts_callers_are_told_to_try_again(load: Load, folder: Path) -> None:
    model = load()
    (folder / "hold").touch()
    os.kill(pid_of(model), signal.SIGKILL)
    assert eventually(lambda: model.outage is not None)
    with pytest.raises(Unavailable) as refusal:
        model.forward(x(1.0))
    assert refusal.value.code == "not_ready"
    assert refusal.value.details["retry_after_s"] == 1
    assert "was ended by SIGKILL, and another is being started" in str(model.outage)
    (folder / "hold").unlink()
    assert eventually(lambda: model.outage is None)


def test_a_model_that_crashes_again_and_again_is_given_up_with_the_reason(load: Load, folder: Path) -> None:
    model = load()
    (folder / "die").touch()
    os.kill(pid_of(model), signal.SIGKILL)
    assert eventually(lambda: model.given_up, 20)
    with pytest.raises(Unavailable) as refusal:
        model.forward(x(1.0))
    assert refusal.value.code == "model_given_up"
    assert "crashed 5 times within 60 s" in str(model.outage)


def test_a_model_that_hangs_can_be_killed_from_another_thread(load: Load, folder: Path) -> None:
    model = load()
    pid = pid_of(model)
    thread, errors = hang(model)
    assert eventually((folder / "busy").exists)
    model.kill()
    thread.join(10)
    assert [error.code for error in errors] == ["model_crashed"]
    assert eventually(lambda: answers(model))
    assert pid_of(model) != pid


def test_closing_ends_the_process_and_leaves_no_zombie_and_no_descriptor(load: Load) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    named = os.listdir("/dev/shm")
    model = load()
    pid = pid_of(model)
    model.close()
    model.close()
    assert eventually(lambda: ended(pid))
    assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    assert os.listdir("/dev/shm") == named
    with pytest.raises(Unavailable, match="closed"):
        model.forward(x(1.0))


def test_closing_ends_a_model_that_hangs(load: Load, folder: Path) -> None:
    model = load()
    pid = pid_of(model)
    thread, errors = hang(model)
    assert eventually((folder / "busy").exists)
    model.close()
    assert eventually(lambda: ended(pid))
    thread.join(10)
    assert len(errors) == 1


def test_signals_to_the_whole_group_are_left_to_the_server(load: Load) -> None:
    model = load()
    pid = pid_of(model)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert pid_of(model) == pid


@pytest.mark.parametrize("work", [1.0, -4.0], ids=["idle", "busy"])
def test_the_process_dies_with_the_server_however_that_dies(work: float, folder: Path) -> None:
    program = f"""
import numpy as np, time
from foretell.backends import ModelOptions, load_backend
model = load_backend({str(folder / "app.py")!r} + ":model", ModelOptions(isolated=True))
print(int(model.forward({{"x": np.ones((1, 2), np.float32)}})["pid"][0]), flush=True)
model.forward({{"x": np.full((1, 2), {work}, np.float32)}})
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert work > 0 or eventually((folder / "busy").exists)
        server.kill()
    assert eventually(lambda: ended(pid))


def test_what_the_model_writes_into_its_inputs_stays_there(load: Load) -> None:
    inputs = x(-7.0)
    load().forward(inputs)
    np.testing.assert_array_equal(inputs["x"], [[-7, -7]])


def shared_bytes() -> int:
    """What all shared memories of this process hold."""
    found = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    held = [each.stat() for each in found if each.is_symlink() and "memfd:foretell" in str(each.readlink())]
    return sum({each.st_ino: each.st_blocks * 512 for each in held}.values())


def test_memory_grows_with_what_is_sent_and_shrinks_after_it(load: Load) -> None:
    model = load("large")
    answer = model.forward({"n": np.array([3 * KEPT_BYTES])})["out"]
    assert answer.shape == (1, 3 * KEPT_BYTES)
    assert answer.min() == 1
    assert model.forward({"n": np.array([5])})["out"].tolist() == [[1] * 5]
    assert shared_bytes() <= 2 * KEPT_BYTES
    assert model.memory_bytes > 0


def test_more_than_a_memory_may_hold_is_the_models_error_and_it_goes_on(load: Load) -> None:
    model = load("large")
    with pytest.raises((Broken, ModelError)):
        model.forward({"n": np.array([2**40])})
    assert model.forward({"n": np.array([5])})["out"].shape == (1, 5)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("gone.onnx", "missing_file"),
        ("app.py:nothing", "broken_code"),
        ("broken.onnx", "broken_model"),
        ("m.pkl", "untrusted_model"),
    ],
)
def test_what_cannot_be_loaded_there_is_refused_as_here(source: str, code: str, folder: Path) -> None:
    for name in ("broken.onnx", "m.pkl"):
        (folder / name).write_bytes(b"nothing")
    with pytest.raises(Setup) as refusal:
        load_backend(folder / source, ModelOptions(isolated=True))
    assert refusal.value.code == code
    assert str(folder) in refusal.value.message


def test_a_process_that_dies_while_it_loads_is_a_broken_model(folder: Path) -> None:
    (folder / "die").touch()
    with pytest.raises(Setup, match="the process that was to load it ended before it had") as refusal:
        load_backend(f"{folder / 'app.py'}:model", ModelOptions(isolated=True))
    assert refusal.value.code == "broken_model"


def test_a_whole_pipeline_is_refused_with_the_cure(folder: Path) -> None:
    with pytest.raises(Setup, match=r"a whole pipeline \(where a model is wanted.*write its steps into pipeline.toml"):
        open_pipeline(f"{folder / 'app.py'}:whole", model_options=ModelOptions(isolated=True))


def test_what_is_no_file_cannot_have_a_process() -> None:
    with pytest.raises(Setup, match="only a model in a file gets a process of its own"):
        load_backend(b"model", ModelOptions(isolated=True))


def test_steps_run_here_and_the_model_there(folder: Path) -> None:
    (folder / "1").mkdir()
    (folder / "app.py").rename(folder / "1" / "app.py")
    (folder / "pipeline.toml").write_text('[model]\nfile = "app.py:model"\n')
    pipeline = open_pipeline(folder, model_options=ModelOptions(isolated=True))
    assert isinstance(pipeline, Pipeline)
    assert int(np.ravel(pipeline({"x": [[1.0, 2.0]]})["pid"])[0]) != os.getpid()
    pipeline.close()


def test_a_chain_tells_of_its_members_that_are_isolated(load: Load) -> None:
    model = load()
    whole = chain([Link("here", model, {"x": "x"}, {"y": "y", "pid": "pid"})], model.signature, "test")
    assert isolated_parts(whole) == [model]


SPECS = tuple(TensorSpec(str(datatype), datatype, (None,)) for datatype in Datatype)
SHAPES = st.tuples(st.integers(0, 5), st.integers(0, 40))


@settings(deadline=None)
@given(SHAPES, st.randoms(use_true_random=False))
def test_tensors_of_every_datatype_cross_as_they_are(shape: tuple[int, int], source: object) -> None:
    memory = Memory.new("test")
    numbers = np.random.default_rng(shape[0])
    arrays = {spec.name: numbers.integers(0, 2, shape).astype(spec.dtype.numpy) for spec in SPECS}
    texts = np.empty(shape, np.object_)
    texts.reshape(-1)[:] = [bytes(numbers.integers(0, 256, i % 7, np.uint8)) for i in range(texts.size)]
    arrays["BYTES"] = texts
    arrays["FP32"] = np.asfortranarray(numbers.normal(size=shape).astype(np.float32))
    filled = memory.write_tensors(SPECS, arrays)
    crossed = memory.read_tensors(SPECS, filled)
    memory.close()
    for name, array in arrays.items():
        assert crossed[name].dtype == array.dtype
        assert crossed[name].flags.owndata or array.size == 0 or array.dtype == object
        np.testing.assert_array_equal(crossed[name], array)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 600), max_size=40), st.integers(0, FIRST_BYTES))
def test_what_cannot_be_is_never_read(table: list[int], filled: int) -> None:
    memory = Memory.new("test")
    memory.write(np.array(table, np.int64).tobytes())
    try:
        arrays = memory.read_tensors(SPECS[:1] + SPECS[-1:], filled)
    except Lost:
        arrays = {}
    memory.close()
    assert sum(array.size for array in arrays.values()) <= filled


def test_a_memory_cannot_be_made_smaller_under_its_reader() -> None:
    memory = Memory.new("test")
    with pytest.raises(PermissionError):
        os.ftruncate(memory.descriptor, 1)
    with pytest.raises(Lost, match="announced, but it is smaller"):
        memory.look(2 * FIRST_BYTES)
    memory.close()


def test_a_process_that_takes_over_has_computed_once_before_the_next_caller(folder: Path) -> None:
    (folder / "counting.py").write_text(COUNTING)
    model = IsolatedModel(Order(f"{folder / 'counting.py'}:model", None, ModelOptions(), 30), pauses_s=(0.0,))
    model.start()
    try:
        assert model.forward({"x": np.zeros(1, np.float32)})["calls"][0] == 1
        model.kill()
        calls: list[int] = []

        def asked() -> bool:
            try:
                calls.append(int(model.forward({"x": np.zeros(1, np.float32)})["calls"][0]))
            except Unavailable:
                return False
            return True

        assert eventually(asked, within_s=20)
        assert calls == [2]
    finally:
        model.close()


def test_a_process_that_cannot_be_started_for_want_of_descriptors_is_a_failed_load_and_leaks_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(24, "Too many open files")

    gc.collect()  # what other tests left open is not closed in between
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(socket, "socketpair", none_left)
    model = IsolatedModel(Order(f"{folder / 'app.py'}:model", None, ModelOptions(), 30))
    with pytest.raises(Setup, match="Too many open files"):
        model.start()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_crashed_model_comes_back_once_there_are_descriptors_again(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pair = load(), socket.socketpair
    tried: list[int] = []

    def none_left_once(*arguments: int) -> object:
        tried.append(1)
        if len(tried) == 1:
            raise OSError(24, "Too many open files")
        return pair(*arguments)

    pid_of(model)
    monkeypatch.setattr(socket, "socketpair", none_left_once)
    model.kill()
    assert eventually(lambda: len(tried) == 2 and answers(model), within_s=20)


def test_a_process_whose_model_takes_something_else_now_does_not_take_over(folder: Path, load: Load) -> None:
    model = load()
    (folder / "app.py").write_text(CODE.replace('"FP32[2]"}, outputs={"y"', '"FP32[3]"}, outputs={"y"'))
    model.kill()
    assert eventually(lambda: model.given_up, within_s=30)


def test_processes_that_follow_each_other_leave_no_descriptor_and_no_thread_behind(load: Load) -> None:
    model = load()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        pid = pid_of(model)
        model.kill()
        assert eventually(lambda gone=pid: answers(model) and pid_of(model) != gone, within_s=20)
    assert len(os.listdir("/proc/self/fd")) <= before[0]
    assert threading.active_count() <= before[1]
