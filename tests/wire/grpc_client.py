"""A gRPC client that knows nothing beforehand: services and messages come from reflection."""

import json

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status


class GrpcClient:
    def __init__(self, target, key=None, credentials=None):
        if credentials:
            self.channel = grpc.secure_channel(target, credentials)
        else:
            self.channel = grpc.insecure_channel(target)
        self.metadata = [("authorization", f"Bearer {key}")] if key else []
        self.reflection = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.reflection)

    def call(self, name, fields=None, timeout=60, data=None):
        """Calls "Service/Method" with a request as a dictionary, or as bytes; answers are messages,
        an iterator of them for a stream."""
        service, method_name = name.split("/")
        method = self.pool.FindServiceByName(f"mlxr.v1.{service}").FindMethodByName(method_name)
        request = message_factory.GetMessageClass(method.input_type)
        if data is None:
            data = ParseDict(fields or {}, request()).SerializeToString()
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        start = kind(
            f"/mlxr.v1.{name}",
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        return start(data, timeout=timeout, metadata=self.metadata)

    def chat(self, text, timeout=60, **fields):
        body = {"messages": [{"role": "ROLE_USER", "content": text}], **fields}
        body.setdefault("sampling", {"temperature": 0})
        return self.call("Inference/Chat", body, timeout)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def details(error):
    """The error details of a failed call, by their type's name, as dictionaries."""
    status = rpc_status.from_call(error)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    # Any needs its messages known: importing them registers them.
    from google.rpc import error_details_pb2  # noqa: F401, PLC0415

    found = {}
    for detail in status.details:
        fields = MessageToDict(detail)
        found[fields.pop("@type").rsplit(".", 1)[1]] = fields
    return found


def text_of(events):
    return "".join(e.delta.text for e in events if e.WhichOneof("event") == "delta")


def arguments_of(events):
    calls = [c for e in events for c in e.delta.tool_calls]
    return json.loads("".join(c.arguments for c in calls))
