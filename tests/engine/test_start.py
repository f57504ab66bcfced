"""One model on disk becomes an engine: with the memory that it took, and batches that fit it."""

import asyncio
import os
from pathlib import Path

import pytest

from foretell.backends import describe
from foretell.cpus import count_cpus
from foretell.engine.engine import Engine
from foretell.engine.placement import Threaded
from foretell.engine.start import start_engine, tell
from foretell.errors import Setup
from foretell.repository import find_models
from foretell.settings import EngineSettings, Settings, TimeoutSettings
from tests.backends import graphs
from tests.serving import eventually

MIB = 2**20
HANGING = """
import os, time
from pathlib import Path
import foretell

@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]"})
def model(arrays):
    (Path(__file__).parent / "pid").write_text(str(os.getpid()))
    time.sleep(1000)
"""


def started(path: Path, workers: int = 1) -> Engine:
    """The engine of the model at a path, stopped again."""

    async def main() -> Engine:
        (source,) = find_models([path])
        engine = await start_engine(source, Settings(workers=workers))
        tell(engine)
        await engine.stop()
        return engine

    return asyncio.run(main())


def folder(tmp_path: Path, model: object, engine: str = "") -> Path:
    (tmp_path / "m" / "1").mkdir(parents=True)
    graphs.save(model, tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "pipeline.toml").write_text(f"[engine]\n{engine}")
    return tmp_path / "m"


@pytest.mark.parametrize(("model", "engine"), [("threads = 0", ""), ("", "threads = 0")])
def test_no_threads_are_an_equal_share_of_the_cpus_for_each_worker(model: str, engine: str, tmp_path: Path) -> None:
    path = folder(tmp_path, graphs.linear())
    (path / "pipeline.toml").write_text(f"[model]\n{model}\n[engine]\n{engine}")
    for workers in (1, count_cpus().usable):
        threads = describe(started(path, workers).pipeline.model)["threads"]
        assert int(threads) == count_cpus().each(workers)


def test_the_memory_that_a_model_took_is_known(tmp_path: Path) -> None:
    weights_bytes = 2000 * 4000 * 4
    engine = started(folder(tmp_path, graphs.linear(features=2000, classes=4000)))
    assert weights_bytes <= engine.memory_bytes < 4 * weights_bytes


def test_a_small_model_takes_its_file_at_least(tmp_path: Path) -> None:
    path = folder(tmp_path, graphs.linear())
    assert started(path).memory_bytes >= (path / "1" / "model.onnx").stat().st_size


def test_a_model_in_a_process_of_its_own_takes_what_that_holds_and_runs_in_a_thread_here(tmp_path: Path) -> None:
    engine = started(folder(tmp_path, graphs.linear(features=2000, classes=4000), 'isolation = "process"'))
    assert 40 * MIB < engine.memory_bytes < 400 * MIB
    assert isinstance(engine.place, Threaded)


def test_rows_that_share_a_scale_are_computed_one_by_one_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "foretell"):
        engine = started(folder(tmp_path, graphs.dynamically_quantized()))
    assert engine.settings.max_batch_rows == 1
    assert "its rows are computed one by one" in caplog.text


def test_a_configuration_that_wants_them_batched_gets_that_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = started(folder(tmp_path, graphs.dynamically_quantized(), "max_batch_rows = 16"))
    assert engine.settings.max_batch_rows == 16
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "rows of a batch change each other's 'y' by up to" in caplog.text


def test_a_model_that_hangs_as_it_is_warmed_is_refused_and_its_process_ended(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HANGING)
    settings = Settings(engine=EngineSettings(isolation="process"), timeouts=TimeoutSettings(load_s=1.5))

    async def main() -> None:
        (source,) = find_models([f"{tmp_path / 'app.py'}:model"])
        with pytest.raises(Setup, match=r"was not loaded within 1.5 s"):
            await start_engine(source, settings)

    asyncio.run(main())
    pid = int((tmp_path / "pid").read_text())
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert pid != os.getpid()


def test_rows_that_leave_each_other_alone_are_not_worth_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "m.py").write_text(
        'import foretell\n\n@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]"})\n'
        'def model(arrays):\n    return {"y": arrays["x"] * 2}\n'
    )
    with caplog.at_level("INFO", "foretell"):
        engine = started(Path(f"{tmp_path / 'm.py'}:model"))
    assert engine.warm.disturbance is not None
    assert "change each other" not in caplog.text
