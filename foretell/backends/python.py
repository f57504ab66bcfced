"""A user's own code as a model: a function with a signature, or a class with ``signature`` and ``forward``."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from foretell.backends import Backend, ModelOptions, reading_model
from foretell.errors import Broken, Setup
from foretell.tensors import Array, Arrays, Signature, TensorSpec, show_shape
from foretell.user_code import CURE, load_attribute


class PythonModel:
    """User code held to its signature: every answer is checked for names, datatypes, shapes and rows.

    ``forward`` raises Broken ``wrong_output`` for an answer that is not as declared. ``close`` calls the code's own
    ``close`` once, if it has one.
    """

    def __init__(
        self, signature: Signature, call: Callable[[Arrays], Arrays], close: Callable[[], object] | None = None
    ) -> None:
        self.signature = signature
        name = getattr(call, "__qualname__", type(call).__qualname__)
        self.facts = {"format": "Python", "code": name, "provider": "what the code chooses"}
        self._call = call
        self._close = close

    def __call__(self, inputs: Arrays) -> Arrays:
        return self.forward(inputs)

    def forward(self, inputs: Arrays) -> Arrays:
        return self._checked(self._call(inputs), self.signature.count_rows(inputs))

    def _checked(self, answers: Arrays, count: int) -> Arrays:
        for spec in self.signature.outputs:
            self._check(spec, answers.get(spec.name), count)
        if len(answers) != len(self.signature.outputs):
            extra = sorted(set(answers) - {spec.name for spec in self.signature.outputs})
            raise Broken("wrong_output", f"the model gave outputs that its signature does not have: {extra}")
        return answers

    def close(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()

    def _check(self, spec: TensorSpec, array: Array | None, count: int) -> None:
        rows = self.signature.rows
        if array is None:
            raise Broken("wrong_output", f"the model's signature has an output {spec.name!r}, its answer has none")
        if array.dtype != spec.dtype.numpy:
            raise Broken("wrong_output", f"output {spec.name!r} is declared as {spec.dtype}, the model gave {array.dtype}")
        if not spec.fits(array.shape[1:] if rows else array.shape) or (rows and array.shape[:1] != (count,)):
            declared = show_shape([count, *spec.shape] if rows else spec.shape)
            raise Broken(
                "wrong_output", f"output {spec.name!r} is declared as {declared}, the model gave {show_shape(array.shape)}"
            )


class StreamingModel(PythonModel):
    """User code that also has a generator method ``stream``: each of its pieces is held to the signature too."""

    def __init__(
        self,
        signature: Signature,
        call: Callable[[Arrays], Arrays],
        pieces: Callable[[Arrays], Iterable[Arrays]],
        close: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(signature, call, close)
        self._pieces = pieces

    def stream(self, inputs: Arrays) -> Iterator[Arrays]:
        count = self.signature.count_rows(inputs)
        for piece in self._pieces(inputs):
            yield self._checked(piece, count)


def model(
    *, inputs: Mapping[str, str], outputs: Mapping[str, str], rows: bool = True
) -> Callable[[Callable[[Arrays], Arrays]], PythonModel]:
    """Makes a model of a function from arrays to arrays.

    ``@foretell.model(inputs={"x": "FP32[30]"}, outputs={"y": "FP32[2]"})``: a datatype and the shape of one row, with ``?``
    for any length. With ``rows=False`` shapes are whole, and there is no batch axis. Raises Setup for a text that is none.
    """
    signature = Signature(_parse(inputs), _parse(outputs), rows)
    return lambda function: PythonModel(signature, function)


def load(source: str, options: ModelOptions) -> Backend:
    """The model at ``app.py:attribute``. Raises Setup ``unknown_format`` or ``broken_code``, naming file and exception."""
    return adapt(load_attribute(source), source, options)


def adapt(found: object, source: str, options: ModelOptions) -> Backend:
    """A class (made with ``options.options`` as keywords) or an object with ``signature`` and ``forward``, as a backend."""
    if isinstance(found, type):
        with reading_model(source, CURE, "broken_code"):
            found = found(**options.options)
    elif options.options:
        raise Setup(
            "wrong_setting", f"{source} is not a class: only a class takes [model] options, remove {sorted(options.options)}"
        )
    if isinstance(found, PythonModel):
        return found
    signature, forward = getattr(found, "signature", None), getattr(found, "forward", None)
    if not isinstance(signature, Signature) or not callable(forward):
        raise Setup(
            "broken_code",
            f"{source} is {_kind(found)}, not a model: decorate a function with @foretell.model(inputs=..., outputs=...), "
            "or give a class the attribute `signature` (a foretell.Signature) and the method `forward`",
        )
    close, pieces = getattr(found, "close", None), getattr(found, "stream", None)
    return StreamingModel(signature, forward, pieces, close) if callable(pieces) else PythonModel(signature, forward, close)


def _parse(texts: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.parse(name, text) for name, text in texts.items())


def _kind(found: object) -> str:
    if hasattr(found, "model") and hasattr(found, "preprocess"):
        return "a whole pipeline (where a model is wanted, as in a process of its own, write its steps into pipeline.toml)"
    return "a function without a signature" if callable(found) else f"of type {type(found).__name__}"
