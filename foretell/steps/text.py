"""Texts to the numbers of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from foretell.errors import Invalid
from foretell.plugins import needs_extra
from foretell.steps import FILE, Specs, derive, pick, read_file, refusal, require, require_choice, require_positive, swap
from foretell.tensors import Array, Arrays, Datatype, TensorSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TENSORS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


@dataclass(frozen=True)
class tokenise:
    """Splits each text into tokens by a `tokenizers` file, cut and padded to one length.

    BYTES [] in UTF-8, named by ``input`` -> INT64 [L] for each of ``outputs``, out of input_ids, attention_mask (1 for a token,
    0 for padding) and token_type_ids. ``tokenizer`` is the model's tokenizer.json. A text keeps its first ``max_length``
    tokens, special ones included; L is ``pad_to``, or else the longest of the request. Padding is what the file says, or
    ``pad_token``. Raises Invalid ``bad_text`` for what is not UTF-8, ``refused_value`` for a text of more than ``max_bytes``,
    both with the row's number.
    """

    tokenizer: str = field(metadata=FILE)
    max_length: int = 512
    pad_to: int | None = None
    pad_token: str | None = None
    outputs: Sequence[str] = ("input_ids", "attention_mask")
    input: str = "text"
    max_bytes: int = 1_000_000
    slow: ClassVar[bool] = True
    _tokenizer: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_positive(self, max_length=self.max_length, pad_to=self.pad_to, max_bytes=self.max_bytes)
        if self.pad_to is not None and self.pad_to < self.max_length:
            raise refusal(self, f"pad_to is {self.pad_to}, shorter than max_length, {self.max_length}: lower max_length")
        for output in self.outputs:
            require_choice(self, "outputs", output, TENSORS)
        if not self.outputs:
            raise refusal(self, f"outputs must name at least one of {', '.join(TENSORS)}")
        derive(self, outputs=tuple(self.outputs), _tokenizer=self._load())

    def takes(self, gives: Specs) -> Specs:
        for name, spec in gives.items():
            if name in self.outputs:
                self._require_length(spec)
            elif name in TENSORS:
                raise refusal(self, f"the model takes {name!r} as well: add it to outputs")
        for output in self.outputs:
            if output not in gives:
                raise refusal(self, f"the model takes no {output!r}, but {', '.join(gives)}: correct outputs")
        return swap(self, gives, self.outputs, {self.input: TensorSpec(self.input, Datatype.BYTES)})

    def gives(self, takes: Specs) -> Specs:
        spec = takes[pick(self, takes, self.input)]
        require(self, spec, spec.dtype is Datatype.BYTES and not spec.shape, "one BYTES value a row: the text")
        tokens = {name: TensorSpec(name, Datatype.INT64, (self.pad_to,)) for name in self.outputs}
        return swap(self, takes, [self.input], tokens)

    def __call__(self, arrays: Arrays) -> Arrays:
        texts = [self._text(data, row) for row, data in enumerate(arrays[self.input])]
        encoded = self._tokenizer.encode_batch(texts)
        tokens: dict[str, Array] = {
            name: np.array([getattr(row, TENSORS[name]) for row in encoded], dtype=np.int64).reshape(len(texts), -1)
            for name in self.outputs
        }
        return swap(self, arrays, [self.input], tokens)

    def _text(self, data: bytes | str, row: int) -> str:
        data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        if len(data) > self.max_bytes:
            why = f"input {self.input!r}, row {row}: the text has {len(data)} bytes, at most {self.max_bytes} are allowed"
            raise Invalid("refused_value", why, input=self.input, row=row, expected=self.max_bytes, got=len(data))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            got = f"byte 0x{data[error.start]:02x} at {error.start}"
            why = f"input {self.input!r}, row {row}: expected UTF-8, got {got}"
            raise Invalid("bad_text", why, input=self.input, row=row, expected="UTF-8", got=got) from error

    def _require_length(self, spec: TensorSpec) -> None:
        fits = spec.dtype is Datatype.INT64 and len(spec.shape) == 1
        if not fits or spec.shape[0] not in {None, self.pad_to}:
            cure = f": say max_length = {spec.shape[0]} and pad_to = {spec.shape[0]}" if fits else ""
            raise refusal(self, f"it gives {spec.name} INT64 [{self.pad_to or '?'}], but the model takes {spec}{cure}")

    def _load(self) -> "Tokenizer":
        text = read_file(self, "tokenizer", self.tokenizer)
        with needs_extra("step 'text.tokenise'", "text"):
            from tokenizers import Tokenizer
        try:
            tokenizer = Tokenizer.from_buffer(text.encode())
        except ValueError as error:
            raise refusal(self, f"{self.tokenizer} is not a tokenizer.json of the tokenizers package: {error}") from error
        tokenizer.enable_truncation(self.max_length)
        self._enable_padding(tokenizer)
        return tokenizer

    def _enable_padding(self, tokenizer: "Tokenizer") -> None:
        found = dict(tokenizer.padding or {})
        token = self.pad_token or found.get("pad_token") or next(filter(tokenizer.token_to_id, ("[PAD]", "<pad>")), "[PAD]")
        number = tokenizer.token_to_id(token)
        if number is None:
            raise refusal(self, f"{self.tokenizer} has no token {token!r} to pad with: say pad_token = one that it has")
        direction, kind = found.get("direction", "right"), found.get("pad_type_id", 0)
        tokenizer.enable_padding(direction=direction, pad_id=number, pad_type_id=kind, pad_token=token, length=self.pad_to)
