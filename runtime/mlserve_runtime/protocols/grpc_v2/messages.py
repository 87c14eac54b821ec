"""The message classes of inference.proto, from the compiled descriptors beside it.

They live in a descriptor pool of their own: protobuf refuses a second definition of `inference.ModelInferRequest` in
its default pool, which a client library in the same process may well have put there.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE: Final = "inference.GRPCInferenceService"

_POOL: Final = descriptor_pool.DescriptorPool()


def _load() -> None:
    compiled = files("mlserve_runtime.protocols.grpc_v2").joinpath("inference.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        _POOL.AddSerializedFile(file.SerializeToString())


_load()


def message(name: str) -> Any:
    """The class of a message by its name within the package."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


def methods() -> dict[str, tuple[Any, Any, bool]]:
    """Per method of the service: request class, response class, whether it streams both ways."""
    service = _POOL.FindServiceByName(SERVICE)
    return {
        method.name: (
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
            bool(method.client_streaming),
        )
        for method in service.methods
    }


ModelInferRequest: Final = message("ModelInferRequest")
ModelInferResponse: Final = message("ModelInferResponse")
ModelStreamInferResponse: Final = message("ModelStreamInferResponse")
