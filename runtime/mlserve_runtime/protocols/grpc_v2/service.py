"""The gRPC service: the same data plane as REST, on a port of its own.

Built without generated stubs: handlers are registered by name, with the message classes of messages.methods().
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import json_format

from mlserve_core.wire import HEADER_DRAINING, HEADER_PREDICTION_ID, HEADER_REVISION
from mlserve_runtime.batching.queue import Job
from mlserve_runtime.calls import Call, Prepared, Reply
from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.errors import InvalidInputError, NotFoundError, ServingError, UnavailableError
from mlserve_runtime.model import ServedModel
from mlserve_runtime.protocols.grpc_v2.codec import read_inputs, read_options, write_response
from mlserve_runtime.protocols.grpc_v2.health import Health
from mlserve_runtime.protocols.grpc_v2.messages import SERVICE, ModelStreamInferResponse, message, methods
from mlserve_runtime.server.listeners import ListenError
from mlserve_runtime.server.metadata import (
    model_config,
    model_is_ready,
    model_metadata,
    model_of,
    server_metadata,
)
from mlserve_runtime.server.statistics import triton_statistics

logger = logging.getLogger(__name__)

_STATUS: Final = {status.name: status for status in grpc.StatusCode}


class GrpcRoute:
    """ModelInfer: a message instead of a body (`Call.payload`)."""

    name = "grpc"

    def decode(self, call: Call, model: ServedModel) -> Prepared:
        """Tensors of a ModelInferRequest. Raises ServingError."""
        request = call.payload
        if request.model_name != model.name:
            raise NotFoundError(f"model {request.model_name!r} is not served here; this is {model.name!r}")
        if request.model_version and request.model_version != model.version:
            raise NotFoundError(f"model {model.name!r} has no version {request.model_version!r}")
        if not request.inputs:
            raise InvalidInputError("the request has no inputs")
        inputs = model.pipeline.check(read_inputs(request, model.artifact.spec.inputs))
        options = read_options(request, model)
        timeouts = [seconds for seconds in (options.timeout, call.timeout) if seconds is not None]

        def encode(model: ServedModel, job: Job) -> Reply:
            headers = tuple((HEADER_PREDICTION_ID.encode(), identifier.encode()) for identifier in job.ids)
            return Reply(200, b"", headers=headers, message=write_response(model, job, options))

        return Prepared(inputs, encode, timeout=min(timeouts, default=None), priority=options.priority)


_ROUTE: Final = GrpcRoute()


class InferenceService:
    """Handlers of inference.GRPCInferenceService."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def infer(self, request: Any, context: Any) -> Any:
        """One prediction."""
        try:
            answer = await self._run(request, context)
        except ServingError as error:
            await self._abort(context, error)
            raise
        trailers = [(name.decode(), value.decode()) for name, value in answer.headers]
        context.set_trailing_metadata(((HEADER_REVISION, self._plane.settings.revision), *trailers))
        return answer.message

    async def stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Predictions in the order of the requests; a failed one is a message and does not end the stream."""
        async for request in requests:
            try:
                yield ModelStreamInferResponse(infer_response=(await self._run(request, context)).message)
            except ServingError as error:
                failed = ModelStreamInferResponse(error_message=str(error))
                failed.infer_response.id = request.id
                yield failed

    async def answer(self, name: str, request: Any) -> dict[str, Any]:
        """The answer of a call that is no prediction, as the JSON form of its message. Raises ServingError."""
        plane = self._plane
        if name == "ServerLive":
            return {"live": True}
        if name == "ServerReady":
            return {"ready": plane.ready}
        if name == "ServerMetadata":
            return server_metadata()
        if name == "ModelReady":
            return {"ready": model_is_ready(plane, request.name, request.version)}
        model = model_of(plane, request.name, request.version)
        if name == "ModelMetadata":
            return model_metadata(model)
        if name == "ModelConfig":
            return {"config": model_config(plane, model)}
        return triton_statistics(plane, model)

    async def _run(self, request: Any, context: Any) -> Reply:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def reply(answer: Reply) -> None:
            if not answered.done():
                answered.set_result(answer)

        def refuse(error: ServingError) -> None:
            if not answered.done():
                answered.set_exception(error)

        call = Call(
            route=_ROUTE,
            headers={key.encode(): _bytes(value) for key, value in context.invocation_metadata() or ()},
            body=b"",
            reply=reply,
            received=time.perf_counter(),
            refuse=refuse,
            payload=request,
            timeout=context.time_remaining(),
        )
        self._plane.handle(call)
        try:
            return await answered
        except asyncio.CancelledError:
            self._plane.abandon(call)
            raise

    async def _abort(self, context: Any, error: ServingError) -> None:
        trailers = [(HEADER_REVISION, self._plane.settings.revision)]
        if isinstance(error, UnavailableError) and error.elsewhere:
            trailers.append((HEADER_DRAINING, "true"))
        await context.abort(_STATUS[error.grpc_status], str(error), trailing_metadata=tuple(trailers))


async def serve_grpc(plane: DataPlane, host: str, port: int, *, shared: bool = False) -> tuple[Any, int]:
    """Start the gRPC server; it and the port it listens on. `shared`: other processes listen on the port as well.

    Raises:
        ListenError: The port is taken, or is none.
    """
    limit = plane.settings.max_body_bytes
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            ("grpc.so_reuseport", int(shared)),
        ]
    )
    server.add_generic_rpc_handlers((_handlers(InferenceService(plane)),))
    await Health(plane).serve(server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ListenError("grpc", host, port, "it is taken, or no port") from error
    await server.start()
    return server, bound


def _handlers(service: InferenceService) -> Any:
    table = {}
    for name, (request, response, streaming) in methods().items():
        serialization = {"request_deserializer": request.FromString, "response_serializer": response.SerializeToString}
        if streaming:
            table[name] = grpc.stream_stream_rpc_method_handler(service.stream, **serialization)
        elif name == "ModelInfer":
            table[name] = grpc.unary_unary_rpc_method_handler(service.infer, **serialization)
        else:
            table[name] = grpc.unary_unary_rpc_method_handler(_metadata_call(service, name), **serialization)
    return grpc.method_handlers_generic_handler(SERVICE, table)


def _metadata_call(service: InferenceService, name: str) -> Any:
    response = message(f"{name}Response")

    async def call(request: Any, context: Any) -> Any:
        try:
            answer = await service.answer(name, request)
        except ServingError as error:
            await context.abort(_STATUS[error.grpc_status], str(error))
            raise
        return json_format.ParseDict(answer, response(), ignore_unknown_fields=True)

    return call


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
