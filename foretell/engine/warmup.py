"""Warms a model up before its first caller, and learns from it: where its forwards run, and whether rows disturb each other."""

import logging
import statistics
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from foretell.backends import Backend, describe, isolated_parts
from foretell.engine.placement import Inline, Threaded
from foretell.settings import EngineSettings
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec

log = logging.getLogger("foretell")
UNKNOWN_LENGTHS = (1, 8, 32, 224)  # tried in turn for axes of any length: some models refuse very short ones
ENOUGH_S = 0.05  # one forward as long as this needs no second measurement
MATES = 8
LARGEST = 0.25
LONGEST_TRIAL_S = 1.0
ALLOWED = {Datatype.FP16: 1e-2, Datatype.BF16: 1e-1}
ALLOWED_ELSE = 1e-3
"""Differences below these, relative to an output's largest value, are those of kernels that add in another order."""


@dataclass(frozen=True)
class Disturbance:
    """How far answers to a row alone lie from those in a batch: the largest difference, by the output's largest value.

    ``output`` has that difference; ``allowed`` is whether its datatype explains it.
    """

    difference: float
    output: str
    allowed: bool

    def __str__(self) -> str:
        return f"rows of a batch change each other's {self.output!r} by up to {self.difference:.1g} of its largest value"


@dataclass(frozen=True)
class WarmUp:
    """What warming a model showed: seconds of its first and of a usual forward of one row.

    ``forward_s`` is None when every made-up row was refused; ``refusal`` is then the model's own last word. ``disturbance`` is
    None when it was not measured. An ``isolated`` model is never waited for on the event loop.
    """

    first_s: float
    forward_s: float | None
    refusal: str | None = None
    disturbance: Disturbance | None = None
    isolated: bool = False


def warm_up(model: Backend, most_rows: int) -> WarmUp:
    """Run the model on made-up rows, alone and in its largest batch, before the first caller waits for it."""
    refusal = None
    isolated = bool(isolated_parts(model))
    for length in UNKNOWN_LENGTHS:
        try:
            first_s = _timed(model, made_up_rows(model.signature, 1, length))
            rows = made_up_rows(model.signature, 1, length)
            times = [first_s] if first_s > ENOUGH_S else []
            while len(times) < 7 and sum(times) < ENOUGH_S:
                times.append(_timed(model, rows))
            forward_s = statistics.median(times)
            if model.signature.rows and forward_s * most_rows < ENOUGH_S:
                _timed(model, made_up_rows(model.signature, most_rows, length))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a made-up row may be one that this model cannot take
            refusal = f"{type(error).__name__}: {error}"[:500]
        else:
            mates = min(MATES, most_rows) if model.signature.rows else 1
            return WarmUp(first_s, forward_s, None, _disturbance(model, mates, length, forward_s), isolated)
    log.warning("the model refuses every made-up row, and could not be warmed up: %s", refusal)
    return WarmUp(0.0, None, refusal, None, isolated)


def choose_place(warm: WarmUp, inline_below_us: float) -> Inline | Threaded:
    """Inline for a forward shorter than the limit; a thread for a longer one, one not measured, or another process's."""
    is_short = warm.forward_s is not None and warm.forward_s * 1e6 < inline_below_us
    return Inline() if is_short and not warm.isolated else Threaded()


def fit_batches(settings: EngineSettings, said: Collection[str], model: Backend) -> EngineSettings:
    """The settings for this model; ``said`` are those that its own configuration names.

    Rows of a graph with dynamic quantization share a scale, so each would change the others' answers: unless its
    configuration says otherwise, they are computed one by one.
    """
    if "max_batch_rows" in said or "dynamic" not in describe(model).get("quantization", ""):
        return settings
    return replace(settings, max_batch_rows=1)


def made_up_rows(signature: Signature, count: int, unknown: int) -> Arrays:
    """``count`` rows of zeros or empty strings that conform to the inputs, axes of any length being ``unknown`` long."""
    whole = {spec.name: _whole(signature, spec, count, unknown) for spec in signature.inputs}
    return {spec.name: np.full(whole[spec.name], _nothing(spec), dtype=spec.dtype.numpy) for spec in signature.inputs}


def random_rows(signature: Signature, count: int, unknown: int) -> Arrays:
    """As ``made_up_rows``, but no two alike, and the same each time.

    Floats lie between 0 and ``LARGEST``, in each row between 0 and half of the row before: what shares a scale shows then.
    """
    numbers = np.random.default_rng(0)

    def make(spec: TensorSpec) -> Array:
        shape = _whole(signature, spec, count, unknown)
        if spec.dtype.is_float:
            halved = LARGEST * 0.5 ** np.arange(shape[0] if shape else 1).reshape(-1, *[1] * (len(shape) - 1))
            return (numbers.random(shape) * (halved if shape else LARGEST)).astype(spec.dtype.numpy)
        if spec.dtype is Datatype.BYTES:
            texts = [bytes(numbers.integers(97, 123, 8, np.uint8)) for _ in range(int(np.prod(shape)))]
            return np.array([*texts, None], np.object_)[:-1].reshape(shape)
        return numbers.integers(0, 256 if spec.dtype is Datatype.UINT8 else 2, shape).astype(spec.dtype.numpy)

    return {spec.name: make(spec) for spec in signature.inputs}


def _disturbance(model: Backend, mates: int, length: int, forward_s: float) -> Disturbance | None:
    """Some rows together and, from the last on, as many alone as there is time for; None for no batches, or refused rows."""
    if mates < 2 or forward_s * mates > LONGEST_TRIAL_S:
        return None
    rows = random_rows(model.signature, mates, length)
    ends = time.perf_counter() + ENOUGH_S
    found = Disturbance(0.0, model.signature.outputs[0].name, allowed=True)
    try:
        together = model.forward(rows)
        for i in reversed(range(mates)):
            alone = model.forward({name: array[i : i + 1] for name, array in rows.items()})
            compared = [_compare(spec, together[spec.name][i : i + 1], alone[spec.name]) for spec in model.signature.outputs]
            found = max(found, *compared, key=lambda each: (not each.allowed, each.difference))
            if time.perf_counter() > ends:
                break
    except KeyboardInterrupt:
        raise
    except BaseException:  # not every model takes random rows
        log.debug("the model refuses random rows: whether they disturb each other is not known", exc_info=True)
        return None
    return found


def _compare(spec: TensorSpec, batch: Array, single: Array) -> Disturbance:
    """One row of an output, from a batch and computed alone."""
    if not spec.dtype.is_float or batch.shape != single.shape:
        same = np.array_equal(batch, single)
        return Disturbance(0.0 if same else 1.0, spec.name, same)
    one, other = batch.astype(np.float64), single.astype(np.float64)
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)):
        return Disturbance(1.0, spec.name, allowed=False)
    largest = float(np.abs(other[finite]).max(initial=0.0)) or 1.0
    difference = float(np.abs(one[finite] - other[finite]).max(initial=0.0)) / largest
    return Disturbance(difference, spec.name, difference <= ALLOWED.get(spec.dtype, ALLOWED_ELSE))


def _whole(signature: Signature, spec: TensorSpec, count: int, unknown: int) -> tuple[int, ...]:
    return ((count,) if signature.rows else ()) + tuple(unknown if size is None else size for size in spec.shape)


def _nothing(spec: TensorSpec) -> object:
    return b"" if spec.dtype is Datatype.BYTES else 0


def _timed(model: Backend, rows: Arrays) -> float:
    start = time.perf_counter()
    model.forward(rows)
    return time.perf_counter() - start
