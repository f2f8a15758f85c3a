"""Calls a server with gRPC's C core and Google's protobuf, which tritonclient stands on, by the messages of contract.ts.

usage: grpcio_client.py ADDRESS DESCRIPTORS, where DESCRIPTORS is a file with a FileDescriptorSet. The server has loaded versions 1 and 2 of
the model `net` of services/server/testing, under explicit control. Prints `ok` for each part that held; ends with an exception otherwise.
"""

import struct
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

address, descriptors = sys.argv[1:]
pool = descriptor_pool.DescriptorPool()
with open(descriptors, "rb") as file:
    for proto in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
        pool.Add(proto)
factory = message_factory.MessageFactory(pool)


def message(name):
    descriptor = pool.FindMessageTypeByName("inference." + name)
    make = getattr(message_factory, "GetMessageClass", None)
    return make(descriptor) if make else factory.GetPrototype(descriptor)


channel = grpc.insecure_channel(address)


def call(name, request=None, compression=None):
    path = "/inference.GRPCInferenceService/" + name
    answer = message(name + "Response")
    method = channel.unary_unary(path, lambda m: m.SerializeToString(), answer.FromString)
    return method(request or message(name + "Request")(), timeout=300, compression=compression)


def infer_request(batch, **fields):
    request = message("ModelInferRequest")(model_name="net", **fields)
    tensor = request.inputs.add(name="pixel_values", datatype="FP32", shape=[batch, 3, 8, 8])
    assert tensor.name == "pixel_values"
    values = [10 * i + c for i in range(batch) for c in range(3) for _ in range(64)]
    request.raw_input_contents.append(struct.pack("<%df" % len(values), *values))
    return request


def refused(code, work):
    try:
        work()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error.details()
    raise AssertionError("expected " + str(code))


assert call("ServerLive").live and call("ServerReady").ready
assert "classification" in call("ServerMetadata").extensions
metadata = call("ModelMetadata", message("ModelMetadataRequest")(name="net"))
assert list(metadata.versions) == ["1", "2"], metadata
print("ok metadata")

response = call("ModelInfer", infer_request(2, id="a", model_version="1"), grpc.Compression.Gzip)
assert response.id == "a" and list(response.outputs[0].shape) == [2, 3]
assert struct.unpack("<6f", response.raw_output_contents[0]) == (0, 1, 2, 10, 11, 12)
typed = message("ModelInferRequest")(model_name="net", model_version="1")
typed.inputs.add(name="pixel_values", datatype="FP32", shape=[1, 3, 8, 8]).contents.fp32_contents.extend([2.0] * 192)
assert struct.unpack("<3f", call("ModelInfer", typed).raw_output_contents[0]) == (2, 2, 2)
print("ok inference")

classified = infer_request(1, model_version="1")
classified.outputs.add(name="logits").parameters["classification"].int64_param = 2
response = call("ModelInfer", classified)
assert response.outputs[0].datatype == "BYTES" and list(response.outputs[0].shape) == [1, 2]
first = b"2.000000:2:blue"
second = b"1.000000:1:green"
expected = struct.pack("<I", len(first)) + first + struct.pack("<I", len(second)) + second
assert response.raw_output_contents[0] == expected, response.raw_output_contents[0]
print("ok classification")

stream = channel.stream_stream(
    "/inference.GRPCInferenceService/ModelStreamInfer",
    lambda m: m.SerializeToString(),
    message("ModelStreamInferResponse").FromString,
)
requests = [infer_request(1, id=str(i)) for i in range(8)]
requests[3].model_name = "absent"
answers = list(stream(iter(requests), timeout=300))
assert [a.infer_response.id for a in answers] == [str(i) for i in range(8)]
assert [i for i, a in enumerate(answers) if a.error_message] == [3], answers
assert all(a.infer_response.parameters["triton_final_response"].bool_param for a in answers)
print("ok stream")

config = call("ModelConfig", message("ModelConfigRequest")(name="net")).config
assert config.max_batch_size == 8 and config.WhichOneof("scheduling_choice") == "dynamic_batching"
statistics = call("ModelStatistics", message("ModelStatisticsRequest")(name="net", version="1")).model_stats
assert len(statistics) == 1 and statistics[0].inference_count == 4, statistics
assert statistics[0].inference_stats.success.count == 3
print("ok configuration and statistics")

call("RepositoryModelUnload", message("RepositoryModelUnloadRequest")(model_name="net"))
index = call("RepositoryIndex").models
assert [(m.name, m.version, m.state, m.reason) for m in index] == [
    ("net", "1", "UNAVAILABLE", "unloaded"),
    ("net", "2", "UNAVAILABLE", "unloaded"),
], index
refused(grpc.StatusCode.UNAVAILABLE, lambda: call("ModelInfer", infer_request(1)))
call("RepositoryModelLoad", message("RepositoryModelLoadRequest")(model_name="net"))
assert [m.state for m in call("RepositoryIndex").models] == ["READY", "READY"]
refused(grpc.StatusCode.NOT_FOUND, lambda: call("ModelMetadata", message("ModelMetadataRequest")(name="absent")))
refused(grpc.StatusCode.UNIMPLEMENTED, lambda: call("SystemSharedMemoryStatus"))
print("ok repository")
