"""What can be asked of a server: every call once, for both clients."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from numpy.typing import ArrayLike

from foretell.client.answers import HEAD_LENGTH, Json, read_json, read_tensors
from foretell.client.codec import encode_binary, encode_json, to_tensor, write_rows
from foretell.client.exchange import Exchange
from foretell.client.options import Address, Options
from foretell.client.refusals import refusal_of
from foretell.client.retry import AGAIN, Budget, wait_s
from foretell.client.transport import Chunk, Transport
from foretell.client.wire import Answer, Message, Writer
from foretell.errors import Broken, ForetellError, Invalid, Setup, Unavailable
from foretell.tensors import Array, Datatype

JSON = "application/json"


class Tensor(NamedTuple):
    """One input, ready to be sent: its JSON, and its elements unless they are in it."""

    head: dict[str, Any]
    raw: Chunk | None


class Calls:
    """The calls, over a transport. Constructed with what the clients were given; nothing is opened before the first call."""

    def __init__(self, address: Address, transport: Transport, key: str | None, timeout_s: float, options: Options) -> None:
        self.options = options
        self.timeout_s = check_timeout(timeout_s)
        self.budget = Budget(options.retry)
        self.exchange = Exchange(transport, Writer(address, authorization(key)), options)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        outputs: Sequence[str],
        version: str | int | None,
        parameters: Mapping[str, object],
        timeout_s: float | None,
    ) -> dict[str, Array]:
        tensors = [self._tensor(name, to_tensor(name, values)) for name, values in inputs.items()]
        asked = {"outputs": [{"name": name} for name in outputs]} if outputs else {}
        form = {"binary_data_output": True} if self.options.binary else {}
        path = f"{model_path(model, version)}/infer"

        def write(left_s: float) -> Message:
            wishes = {**parameters, "timeout": _timeout_us(parameters, left_s), **form}
            head = {"parameters": wishes, "inputs": [tensor.head for tensor in tensors], **asked}
            return _infer_message(path, head, [tensor.raw for tensor in tensors if tensor.raw is not None])

        answer = await self.ask(write, timeout_s, once="sequence_id" in parameters)
        return read_tensors(answer)

    async def predict(
        self, model: str, rows: object, *, version: str | int | None, content_type: str | None, timeout_s: float | None
    ) -> list[dict[str, Any]]:
        body = rows if isinstance(rows, bytes) else write_rows(rows)
        if isinstance(rows, bytes) and content_type is None:
            raise Invalid("invalid_body", "bytes need a content_type that says what they are: image/png, text/csv, ...")
        path = model_path(model, version).replace("/v2/models", "/predict", 1)
        message = Message("POST", path, {"Content-Type": content_type or JSON}, [body])
        answer = await self.ask(lambda _: message, timeout_s)
        said = read_json(answer.body, "an object").get("predictions")
        if not (isinstance(said, list) and all(isinstance(row, dict) for row in said)):
            raise Broken("foreign_answer", "the answer holds no predictions: check the address")
        predictions: list[dict[str, Any]] = said
        return predictions

    async def metadata(self, model: str, *, version: str | int | None) -> dict[str, Any]:
        answer: dict[str, Any] = await self._get(model_path(model, version), "an object")
        return answer

    async def models(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = await self._get("/v2/models", "a list")
        return answer

    async def is_ready(self, model: str | None, *, version: str | int | None) -> bool:
        path = "/v2/health/ready" if model is None else f"{model_path(model, version)}/ready"
        try:
            answer = await self.exchange.ask(Message("GET", path), self.options.clock() + self.timeout_s)
        except Unavailable:
            return False
        refusal = refusal_of(answer)
        if refusal is not None and answer.status != 503:
            raise refusal
        return refusal is None

    def close(self) -> None:
        self.exchange.pool.close()

    async def _get(self, path: str, kind: Json) -> Any:
        return read_json((await self.ask(lambda _: Message("GET", path), None)).body, kind)

    async def ask(self, write: Callable[[float], Message], timeout_s: float | None, *, once: bool = False) -> Answer:
        """The answer of one of several tries; ``once`` forbids another after a connection error. Raises ForetellError."""
        deadline = self.options.clock() + (self.timeout_s if timeout_s is None else check_timeout(timeout_s))
        tries = 0
        while True:
            tries += 1
            try:
                answer = await self.exchange.ask(write(deadline - self.options.clock()), deadline, once=once)
                error = refusal_of(answer)
            except Unavailable as unreachable:
                error = unreachable
            if error is None:
                self.budget.put_back()
                return answer
            pause_s = wait_s(self.options.retry, tries, error)
            if not self._may_again(error, tries, once=once) or self.options.clock() + pause_s >= deadline:
                raise error
            if not self.budget.take():
                raise error
            await self.exchange.transport.sleep(pause_s)

    def _may_again(self, error: ForetellError, tries: int, *, once: bool) -> bool:
        return error.kind in AGAIN and tries <= self.options.retry.most and not (once and error.code == "unreachable")

    def _tensor(self, name: str, array: Array) -> Tensor:
        head = {"name": name, "shape": list(array.shape), "datatype": str(Datatype.of(array.dtype))}
        if not self.options.binary:
            return Tensor({**head, **encode_json(name, array)}, None)
        raw = encode_binary(name, array)
        return Tensor({**head, "parameters": {"binary_data_size": len(raw)}}, raw)


def authorization(key: str | None) -> dict[str, str]:
    """The header that carries a key. Raises Setup for one that a header cannot hold."""
    if key is None:
        return {}
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise Setup("wrong_setting", "a key is one word of printable ASCII characters, and this one is not")
    return {"Authorization": f"Bearer {key}"}


def check_timeout(timeout_s: float) -> float:
    """A longest time, which is a number of seconds above 0. Raises Setup."""
    if not 0 < timeout_s < float("inf"):
        raise Setup("wrong_setting", f"timeout_s is a number of seconds above 0, not {timeout_s!r}")
    return timeout_s


def model_path(model: str, version: str | int | None) -> str:
    """``/v2/models/m``, with its version or, for what is no number, its label."""
    path = f"/v2/models/{quote(model, safe='')}"
    if version is None:
        return path
    text = str(version)
    return f"{path}/{'versions' if text.isdigit() else 'labels'}/{quote(text, safe='')}"


def _infer_message(path: str, head: dict[str, Any], raws: Sequence[Chunk]) -> Message:
    try:
        text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise Invalid("unknown_parameter", f"a parameter cannot be written as JSON: {error}") from error
    if not raws:
        return Message("POST", path, {"Content-Type": JSON}, [text])
    return Message("POST", path, {"Content-Type": "application/octet-stream", HEAD_LENGTH: str(len(text))}, [text, *raws])


def _timeout_us(parameters: Mapping[str, object], left_s: float) -> int:
    """The time that is left, in microseconds, unless the caller asked for less."""
    asked = parameters.get("timeout")
    left = max(1, int(left_s * 1e6))
    return min(asked, left) if isinstance(asked, int) and asked > 0 else left


NOTHING: Mapping[str, object] = {}
