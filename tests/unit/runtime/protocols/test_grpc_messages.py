"""The compiled descriptors are those of the .proto beside them, and agree with a client's copy of the protocol."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

from mlserve_runtime.protocols.grpc_v2.messages import message, methods

PACKAGE = files("mlserve_runtime.protocols.grpc_v2")


def theirs() -> dict[str, Any]:
    return {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}


def names() -> list[str]:
    compiled = descriptor_pb2.FileDescriptorSet.FromString(PACKAGE.joinpath("inference.binpb").read_bytes())
    return [entry.name for entry in compiled.file[0].message_type]


@pytest.mark.parametrize("name", names())
def test_fields_agree_with_tritonclient(name: str) -> None:
    ours, other = message(name).DESCRIPTOR, theirs()[name]
    for field in ours.fields:
        match = other.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (match.number, match.type, match.is_repeated)


def test_the_compiled_file_has_what_the_source_declares() -> None:
    source = PACKAGE.joinpath("inference.proto").read_text()
    assert all(f"message {name} " in source for name in names())
    assert all(f"rpc {name}(" in source for name in methods())
    assert len(methods()) == source.count("  rpc ")


def test_a_second_copy_of_the_package_in_one_process_is_no_conflict() -> None:
    request = service_pb2.ModelInferRequest(model_name="m", id="7")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    ours = message("ModelInferRequest").FromString(request.SerializeToString())
    assert (ours.model_name, ours.id, list(ours.inputs[0].shape)) == ("m", "7", [1, 2])
