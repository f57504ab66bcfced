"""One model on disk becomes an engine that is warm."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from foretell.backends import ModelOptions, describe, isolated_parts
from foretell.cpus import count_cpus
from foretell.engine.engine import Engine
from foretell.engine.suspects import Suspects
from foretell.engine.warmup import fit_batches
from foretell.errors import Setup
from foretell.memory import Growth
from foretell.passage import Observer
from foretell.pipeline import Pipeline
from foretell.repository import open_pipeline
from foretell.repository.files import Ingredients, count_bytes, ingredients
from foretell.repository.model_folder import ModelSource, has_sums
from foretell.settings import Settings, override

UNFINISHED = {"incomplete", "wrong_checksum"}
VERIFIED = "its files are those of SHA256SUMS"

log = logging.getLogger("foretell")


@dataclass(frozen=True)
class Loaded:
    """An engine, and what it was made from; ``seconds`` is what loading took, ``reason`` what the index says of it."""

    engine: Engine
    made: Ingredients
    bytes: int
    seconds: float
    reason: str

    @property
    def key(self) -> tuple[str, str]:
        """Name and version."""
        return self.engine.name, self.engine.version


def sizes(loaded: Mapping[tuple[str, str], Loaded]) -> dict[str, int]:
    """The memory that each model takes, with all of its versions, in bytes."""
    sums: dict[str, int] = {}
    for (name, _), each in loaded.items():
        sums[name] = sums.get(name, 0) + each.bytes
    return sums


async def load_version(
    source: ModelSource,
    made: Ingredients,
    settings: Settings,
    observers: Sequence[Observer],
    suspects: Suspects | None = None,
) -> Loaded:
    """A version's engine, warm, made from just these files.

    Raises Setup as ``start_engine``, and ``incomplete`` when the files were written meanwhile. Where that is so, or where they
    are not those of their SHA256SUMS, the details name the ``version``.
    """
    started = time.monotonic()
    try:
        verified = await asyncio.to_thread(has_sums, source)
        engine = await start_engine(source, settings, observers, suspects)
        try:
            _check_still(made, await asyncio.to_thread(ingredients, source))
        except BaseException:
            await engine.stop()
            raise
    except Setup as error:
        if error.code in UNFINISHED:
            error.details["version"] = source.version
        raise
    except OSError as error:
        raise Setup("missing_file", f"{error.filename} is gone or cannot be read ({error.strerror}): load it again") from error
    tell(engine)  # not before: the log may lie beside the model, and is no part of it
    return Loaded(engine, made, engine.memory_bytes, time.monotonic() - started, VERIFIED if verified else "")


async def start_engine(
    source: ModelSource, settings: Settings, observers: Sequence[Observer] = (), suspects: Suspects | None = None
) -> Engine:
    """One model, loaded and warmed within ``timeouts.load_s``. Raises Setup."""
    changes: Mapping[str, object] = source.config.engine
    engine_settings = override(settings.engine, changes, f"[engine] of model {source.name!r}")
    share = count_cpus().each(settings.workers)
    options = ModelOptions(threads=engine_settings.threads or share, isolated=engine_settings.isolation == "process")
    growth = await asyncio.to_thread(Growth)
    try:
        async with asyncio.timeout(settings.timeouts.load_s):
            least = await asyncio.to_thread(count_bytes, source)
            pipeline = await _open(_sharing(source, share), options)
            engine_settings = fit_batches(engine_settings, changes, pipeline.model)
            engine = Engine(source.name, source.version, pipeline, engine_settings, observers, suspects=suspects)
            await _warm(engine)
            engine.memory_bytes = max(least, await asyncio.to_thread(_held, pipeline, growth))
    except TimeoutError as error:
        seconds = settings.timeouts.load_s
        text = f"{source.path} was not loaded within {seconds:g} s: raise timeouts.load_s or make it smaller"
        raise Setup("broken_model", text) from error
    return engine


def _sharing(source: ModelSource, share: int) -> ModelSource:
    """The source with so many threads where its configuration says 0."""
    config = source.config
    if config.model.threads != 0:
        return source
    return replace(source, config=msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, threads=share)))


async def _warm(engine: Engine) -> None:
    """Start an engine; if that takes too long, it is closed."""
    try:
        await engine.start()
    except BaseException:
        engine.pipeline.close()
        raise


async def _open(source: ModelSource, options: ModelOptions) -> Pipeline:
    """The pipeline; when nobody waits for it any more, it is closed once it is there."""
    opening = asyncio.ensure_future(asyncio.to_thread(open_pipeline, source, model_options=options))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise


def _close_late(opening: "asyncio.Future[Pipeline]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _held(pipeline: Pipeline, growth: Growth) -> int:
    """What this process has grown by, and the model's own processes hold."""
    return growth.bytes + sum(part.memory_bytes for part in isolated_parts(pipeline.model))


def tell(engine: Engine) -> None:
    """What warming up has shown, in the log."""
    disturbance = engine.warm.disturbance
    if disturbance is not None and disturbance.difference:
        level = logging.INFO if disturbance.allowed else logging.WARNING
        log.log(level, "model %s version %s: %s", engine.name, engine.version, disturbance)
    if engine.settings.max_batch_rows == 1 and "quantization" in describe(engine.pipeline.model):
        log.info("model %s version %s: its rows are computed one by one, quantized as it is", engine.name, engine.version)


def _check_still(before: Ingredients, after: Ingredients) -> None:
    if not before.files <= after.files:
        text = f"files of {before.source.path} were written while they were read: load it again when they are whole"
        raise Setup("incomplete", text)
