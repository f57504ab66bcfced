"""A client of a foretell server, or of any that speaks the Open Inference Protocol: numpy arrays in and out.

with Client("http://127.0.0.1:8000") as client:
    outputs = client.infer("digits", {"image": images})

``AsyncClient`` is the same in an event loop. Every failure is a ForetellError, that of the server as the server raised it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from numpy.typing import ArrayLike

from foretell.client.calls import NOTHING, Calls
from foretell.client.options import Address, Options, Retry
from foretell.client.transport import Blocking, Streaming, finish
from foretell.tensors import Array

__all__ = ["AsyncClient", "Client", "Options", "Retry"]


class Client:
    """Asks one server. Safe from many threads; connections are kept and shared.

    ``key`` is sent as a Bearer token. ``timeout_s`` is the longest time of one call, all its retries included, unless the call
    says another. Raises Setup for an address or a value that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        options: Options = Options(),  # noqa: B008 - it is frozen
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        address = Address.parse(url, options.tls)
        self._calls = Calls(address, Blocking(address, options.connections, sleep), key, timeout_s, options)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str | int | None = None,
        parameters: Mapping[str, object] = NOTHING,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """The outputs of a model for arrays by name, rows on axis 0; all outputs, or those that are named.

        Datatypes are those of the arrays: texts and bytes become BYTES, ml_dtypes's bfloat16 BF16; BYTES outputs are object
        arrays of ``bytes``. ``version`` is a number or a label. The server is told how much time is left. Raises ForetellError.
        """
        return finish(
            self._calls.infer(model, inputs, outputs=outputs, version=version, parameters=parameters, timeout_s=timeout_s)
        )

    def predict(
        self,
        model: str,
        rows: object,
        *,
        version: str | int | None = None,
        content_type: str | None = None,
        timeout_s: float | None = None,
    ) -> list[dict[str, Any]]:
        """One prediction for each row. A row is an object of input values, or the bare value of the only input.

        ``bytes`` are sent as they are, as ``content_type``: an image, CSV, NDJSON, text. Raises ForetellError.
        """
        return finish(self._calls.predict(model, rows, version=version, content_type=content_type, timeout_s=timeout_s))

    def metadata(self, model: str, *, version: str | int | None = None) -> dict[str, Any]:
        """What a model takes and gives, as the protocol's model metadata. Raises ForetellError."""
        return finish(self._calls.metadata(model, version=version))

    def models(self) -> list[dict[str, Any]]:
        """Name, version and readiness of every model. Raises ForetellError."""
        return finish(self._calls.models())

    def is_ready(self, model: str | None = None, *, version: str | int | None = None) -> bool:
        """Whether the server, or a model, would answer now; False if it cannot be reached. Never tries again."""
        return finish(self._calls.is_ready(model, version=version))

    def close(self) -> None:
        """Close the connections that are idle. The client can still be used, and opens new ones."""
        self._calls.close()


class AsyncClient:
    """``Client`` in an event loop: the same calls, awaited. Belongs to the loop that uses it first."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        options: Options = Options(),  # noqa: B008 - it is frozen
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        address = Address.parse(url, options.tls)
        self._calls = Calls(address, Streaming(address, options.connections, sleep), key, timeout_s, options)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str | int | None = None,
        parameters: Mapping[str, object] = NOTHING,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """See ``Client.infer``."""
        return await self._calls.infer(
            model, inputs, outputs=outputs, version=version, parameters=parameters, timeout_s=timeout_s
        )

    async def predict(
        self,
        model: str,
        rows: object,
        *,
        version: str | int | None = None,
        content_type: str | None = None,
        timeout_s: float | None = None,
    ) -> list[dict[str, Any]]:
        """See ``Client.predict``."""
        return await self._calls.predict(model, rows, version=version, content_type=content_type, timeout_s=timeout_s)

    async def metadata(self, model: str, *, version: str | int | None = None) -> dict[str, Any]:
        """See ``Client.metadata``."""
        return await self._calls.metadata(model, version=version)

    async def models(self) -> list[dict[str, Any]]:
        """See ``Client.models``."""
        return await self._calls.models()

    async def is_ready(self, model: str | None = None, *, version: str | int | None = None) -> bool:
        """See ``Client.is_ready``."""
        return await self._calls.is_ready(model, version=version)

    async def close(self) -> None:
        """See ``Client.close``."""
        self._calls.close()
        await asyncio.sleep(0)  # the loop takes its own connections down in its next round
