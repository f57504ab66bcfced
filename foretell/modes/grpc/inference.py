"""``inference.GRPCInferenceService``: the Open Inference Protocol, with the extensions of Triton that clients use.

https://github.com/triton-inference-server/server/blob/main/docs/customization_guide/inference_protocols.md
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from importlib.metadata import version
from typing import Any

from google.protobuf.json_format import ParseDict

from foretell.backends import Streaming
from foretell.engine.catalog import Catalog
from foretell.engine.describe import config, metadata
from foretell.engine.engine import Engine
from foretell.engine.parameters import check_load_parameters
from foretell.engine.states import Control
from foretell.errors import ForetellError, Missing, Unavailable
from foretell.modes.grpc.calls import (
    Context,
    Metadata,
    authorization_of,
    caller_of,
    key_of,
    marks_of,
    metadata_of,
    parse,
    parse_guarded,
    simple,
    streaming,
    unary,
)
from foretell.modes.grpc.guard import SMALL_BYTES, Tree
from foretell.modes.grpc.repeats import Repeats
from foretell.modes.grpc.status import refusal, unexpected
from foretell.modes.grpc.stubs import inference_pb2 as messages
from foretell.modes.grpc.stubs.model_config_pb2 import ModelConfig
from foretell.modes.grpc.tensors import TensorDoor, read_map
from foretell.request import Request
from foretell.security import check_admin, told_whole
from foretell.settings import Settings
from foretell.tensors import Arrays

SERVICE = "inference.GRPCInferenceService"
EXTENSIONS = (
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
    "binary_tensor_data",
)
PARTS: Tree = {5: {5: {}}, 6: {}}
"""Where an infer message may hold many small ones: inputs with their contents, and requested outputs."""

STREAM_WINDOW = 32
"""Requests of one stream that are worked on at once."""

WANTS_FINAL = "triton_enable_empty_final_response"
Messages = AsyncGenerator[bytes, None]
Statistics = Callable[[str, str], dict[str, Any]]


class InferenceService:
    """The methods of the service. ``doors`` are the ready engines by name and version, "" being the newest."""

    def __init__(
        self, catalog: Catalog, loader: Control, statistics: Statistics, settings: Settings, ready: Callable[[], bool]
    ) -> None:
        self.catalog = catalog
        self.loader = loader
        self.statistics = statistics
        self.admin_key = settings.admin.key
        self.total_s = settings.timeouts.total_s
        self.caller_header = settings.http.caller_header.lower()
        self.ready = ready
        self.doors: dict[tuple[str, str], TensorDoor] = {}
        self.repeats = Repeats()
        self._readers: set[asyncio.Task[None]] = set()
        catalog.watch(self.open_doors)

    def open_doors(self) -> None:
        """The doors of all engines; the newest version of a model also answers without its number."""
        doors: dict[tuple[str, str], TensorDoor] = {}
        for engine in self.catalog:
            door = doors[engine.name, engine.version] = TensorDoor(engine)
            if self.catalog.versions(engine.name)[-1] == engine.version:
                doors[engine.name, ""] = door
        self.doors = doors
        self.repeats.forget()

    def methods(self) -> dict[str, Any]:
        """The handler of each method, by name."""
        return {
            "ServerLive": simple(messages.ServerLiveRequest, lambda request: messages.ServerLiveResponse(live=True)),
            "ServerReady": simple(messages.ServerReadyRequest, lambda _: messages.ServerReadyResponse(ready=self.ready())),
            "ServerMetadata": simple(messages.ServerMetadataRequest, self.server_metadata),
            "ModelReady": simple(messages.ModelReadyRequest, self.model_ready),
            "ModelMetadata": simple(messages.ModelMetadataRequest, self.model_metadata),
            "ModelConfig": simple(messages.ModelConfigRequest, self.model_config),
            "ModelStatistics": simple(messages.ModelStatisticsRequest, self.model_statistics),
            "ModelInfer": unary(self.infer),
            "ModelStreamInfer": streaming(self.stream_infer, many_requests=True),
            "RepositoryIndex": simple(messages.RepositoryIndexRequest, self.index),
            "RepositoryModelLoad": unary(self.load),
            "RepositoryModelUnload": unary(self.unload),
        }

    async def infer(self, body: bytes, context: Context, metadata: Metadata) -> bytes:
        """ModelInfer: the way of one request. Cancelled, it takes its work back."""
        received = time.monotonic()
        repeated = self.repeats.find(body)
        if repeated is None or not repeated[0].door.engine.ready:
            message = await parse_guarded(messages.ModelInferRequest, body, PARTS)
            return await self._answer(message, body, received, context, metadata)
        mould, inputs = repeated
        request = Request(inputs, received, received + self.total_s, None, "grpc", outputs=mould.outputs)
        return await self._infer(mould.door, request, mould.classes, context, metadata)

    async def _answer(
        self, message: messages.ModelInferRequest, body: bytes, received: float, context: Context, metadata: Metadata
    ) -> bytes:
        door, is_split = self._door_of(message, metadata)
        request, classes = await self._read(door, message, body, received, metadata)
        if not is_split and len(body) <= SMALL_BYTES:
            self.repeats.keep(body, message, door, request, classes)
        return await self._infer(door, request, classes, context, metadata)

    def _door_of(self, message: messages.ModelInferRequest, metadata: Metadata) -> tuple[TensorDoor, bool]:
        """The door that answers a message, and whether another may answer the next one like it."""
        traffic = None if message.model_version else self.catalog.traffic(message.model_name)
        version = message.model_version if traffic is None else traffic.pick(key_of(metadata, traffic))
        return self._door(message.model_name, version), traffic is not None

    async def _read(
        self, door: TensorDoor, message: messages.ModelInferRequest, body: bytes, received: float, metadata: Metadata
    ) -> tuple[Request, dict[str, int]]:
        """The request in a message. What takes long runs in a thread, so that nobody else waits for it."""
        try:
            if len(body) <= SMALL_BYTES:
                return door.read(message, received, self.total_s)
            return await asyncio.to_thread(door.read, message, received, self.total_s)
        except ForetellError as error:
            door.engine.refuse(Request({}, received, mode="grpc", marks=marks_of(metadata)), error)
            raise

    async def _infer(
        self, door: TensorDoor, request: Request, classes: Mapping[str, int], context: Context, metadata: Metadata
    ) -> bytes:
        self._complete(request, context, metadata)
        return await _write(door, request, await door.engine.infer(request), classes)

    def _complete(self, request: Request, context: Context, metadata: Metadata) -> None:
        """Say in a request who asks, how it is found again, and until when it may take."""
        request.marks = marks_of(metadata)
        request.caller = caller_of(context, metadata, self.caller_header)
        left_s = context.time_remaining()
        if left_s is not None:
            request.deadline = min(request.deadline, time.monotonic() + left_s)

    async def stream_infer(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """ModelStreamInfer: requests of one stream share batches, and are answered in their order, refusals too.

        A model that streams gives one message for each piece of its answer.
        """
        window = asyncio.Semaphore(STREAM_WINDOW)
        pending: asyncio.Queue[asyncio.Task[Messages] | None] = asyncio.Queue()
        metadata = metadata_of(context)

        async def read() -> None:
            try:
                async for body in requests:
                    await window.acquire()
                    pending.put_nowait(asyncio.ensure_future(self._streamed(body, context, metadata)))
            finally:
                pending.put_nowait(None)

        reader = asyncio.ensure_future(read())
        self._readers.add(reader)
        try:
            while (task := await pending.get()) is not None:
                async with aclosing(await task) as answers:
                    async for answer in answers:
                        yield answer
                window.release()
            await asyncio.wait({reader})
            if reader.cancelled():
                raise Unavailable("not_ready", "the server is stopping: open another stream", retry_after_s=1)
        finally:
            self._readers.discard(reader)
            reader.cancel()
            while not pending.empty():
                left = pending.get_nowait()
                if left is not None:
                    left.cancel()

    def close(self) -> None:
        """Read no more from streams: each ends when what has come of it has been answered."""
        for reader in self._readers:
            reader.cancel()

    async def _streamed(self, body: bytes, context: Context, metadata: Metadata) -> Messages:
        """The answers to one request of a stream: what it gets, or why not."""
        received = time.monotonic()
        message = messages.ModelInferRequest()
        try:
            message = await parse_guarded(messages.ModelInferRequest, body, PARTS)
            door, _ = self._door_of(message, metadata)
            request, classes = await self._read(door, message, body, received, metadata)
            self._complete(request, context, metadata)
            if isinstance(door.engine.pipeline.model, Streaming):
                return _pieces(door, request, classes, message, metadata)
            answer = await _write(door, request, await door.engine.infer(request), classes)
        except ForetellError as error:
            return _once(_failed(message, error, metadata))
        except Exception as mistake:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's error message
            return _once(_failed(message, unexpected(mistake), metadata))
        final = True if WANTS_FINAL in message.parameters else None
        return _once(_told(answer, final))

    def server_metadata(self, request: messages.ServerMetadataRequest) -> messages.ServerMetadataResponse:
        return messages.ServerMetadataResponse(name="foretell", version=version("foretell"), extensions=EXTENSIONS)

    def model_ready(self, request: messages.ModelReadyRequest) -> messages.ModelReadyResponse:
        try:
            is_ready = self._engine(request.name, request.version).ready
        except (Missing, Unavailable):  # Triton tells False of a model that it does not know, too
            is_ready = False
        return messages.ModelReadyResponse(ready=is_ready)

    def model_metadata(self, request: messages.ModelMetadataRequest) -> messages.ModelMetadataResponse:
        described = metadata(self._engine(request.name, request.version), self.catalog)
        inputs, outputs = (
            [
                messages.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
                for tensor in tensors
            ]
            for tensors in (described.inputs, described.outputs)
        )
        return messages.ModelMetadataResponse(
            name=described.name, versions=described.versions, platform=described.platform, inputs=inputs, outputs=outputs
        )

    def model_config(self, request: messages.ModelConfigRequest) -> messages.ModelConfigResponse:
        told = config(self._engine(request.name, request.version), self.catalog)
        return messages.ModelConfigResponse(config=ParseDict(told, ModelConfig(), ignore_unknown_fields=True))

    def model_statistics(self, request: messages.ModelStatisticsRequest) -> messages.ModelStatisticsResponse:
        if request.name:
            versions = [request.version] if request.version else self.catalog.versions(request.name)
            engines = [self._engine(request.name, each) for each in versions]
        else:
            engines = list(self.catalog)
        told = {"model_stats": [self.statistics(engine.name, engine.version) for engine in engines]}
        return ParseDict(told, messages.ModelStatisticsResponse(), ignore_unknown_fields=True)

    def index(self, request: messages.RepositoryIndexRequest) -> messages.RepositoryIndexResponse:
        entries = self.loader.index(ready_only=request.ready)
        kind = messages.RepositoryIndexResponse.ModelIndex
        models = [
            kind(name=entry.name, version=entry.version, state=str(entry.state), reason=entry.reason) for entry in entries
        ]
        return messages.RepositoryIndexResponse(models=models)

    async def load(self, body: bytes, context: Context, metadata: Metadata) -> bytes:
        """RepositoryModelLoad, for who holds the admin key."""
        check_admin(self.admin_key, authorization_of(metadata))
        asked = parse(messages.RepositoryModelLoadRequest, body)
        check_load_parameters(read_map(asked.parameters))
        with told_whole():
            await self.loader.load(asked.model_name)
        return b""

    async def unload(self, body: bytes, context: Context, metadata: Metadata) -> bytes:
        """RepositoryModelUnload, for who holds the admin key."""
        check_admin(self.admin_key, authorization_of(metadata))
        asked = parse(messages.RepositoryModelUnloadRequest, body)
        check_load_parameters(read_map(asked.parameters))
        await self.loader.unload(asked.model_name)
        return b""

    def _door(self, name: str, number: str) -> TensorDoor:
        door = self.doors.get((name, number))
        if door is None or not door.engine.ready:
            self.catalog.call(name)
            engine = self._engine(name, number)
            return self.doors[engine.name, engine.version]
        return door

    def _engine(self, name: str, number: str) -> Engine:
        return self.catalog.find(name, number or None)


async def _write(door: TensorDoor, request: Request, outputs: Arrays, classes: Mapping[str, int]) -> bytes:
    if sum([array.nbytes for array in outputs.values()]) > SMALL_BYTES:
        return await asyncio.to_thread(door.write, request, outputs, classes)
    return door.write(request, outputs, classes)


async def _once(answer: bytes) -> Messages:
    yield answer


async def _pieces(
    door: TensorDoor, request: Request, classes: Mapping[str, int], message: messages.ModelInferRequest, metadata: Metadata
) -> Messages:
    """The pieces of one answer. Behind the last an empty message, for those who asked to be told which that was."""
    try:
        async with aclosing(door.engine.stream(request)) as pieces:
            async for outputs in pieces:
                yield _told(await _write(door, request, outputs, classes), final=False)
    except ForetellError as error:
        yield _failed(message, error, metadata)
        return
    if WANTS_FINAL in message.parameters:
        end = messages.ModelInferResponse(model_name=door.engine.name, model_version=door.engine.version, id=message.id)
        yield _told(end.SerializeToString(), final=True)


def _told(answer: bytes, final: bool | None) -> bytes:
    """An answer as a message of a stream; ``final``: whether it says that it is the last of its request, or is not."""
    response = messages.ModelInferResponse.FromString(answer)
    if final is not None:
        response.parameters["triton_final_response"].bool_param = final
    return messages.ModelStreamInferResponse(infer_response=response).SerializeToString()


def _failed(message: messages.ModelInferRequest, error: ForetellError, metadata: Metadata) -> bytes:
    """Why one request of a stream has no answer; its code is a parameter."""
    named = messages.ModelInferResponse(model_name=message.model_name, model_version=message.model_version, id=message.id)
    named.parameters["foretell_code"].string_param = error.code
    sentence = refusal(error, marks_of(metadata), message.model_name).sentence
    return messages.ModelStreamInferResponse(error_message=sentence, infer_response=named).SerializeToString()
