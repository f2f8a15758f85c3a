"""Asks a language model by gRPC's C core and Google's protobuf, which tritonclient stands on, as clients of Triton's vLLM backend do.

usage: grpcio_text_client.py ADDRESS DESCRIPTORS, where DESCRIPTORS is a file with a FileDescriptorSet. The server has the language model `lm` of
services/server/testing, of which tokens are bytes. Prints `ok` for each part that held; ends with an exception otherwise.
"""

import json
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
service = "/inference.GRPCInferenceService/"
infer = channel.unary_unary(
    service + "ModelInfer", lambda m: m.SerializeToString(), message("ModelInferResponse").FromString
)
stream = channel.stream_stream(
    service + "ModelStreamInfer", lambda m: m.SerializeToString(), message("ModelStreamInferResponse").FromString
)


def request(text, parameters=None, streamed=False, empty_final=False, **fields):
    made = message("ModelInferRequest")(model_name="lm", **fields)
    made.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    data = text.encode()
    made.raw_input_contents.append(struct.pack("<I", len(data)) + data)
    made.inputs.add(name="stream", datatype="BOOL", shape=[1])
    made.raw_input_contents.append(struct.pack("?", streamed))
    data = json.dumps({"temperature": "0", "max_tokens": "20", "ignore_eos": True, **(parameters or {})}).encode()
    made.inputs.add(name="sampling_parameters", datatype="BYTES", shape=[1])
    made.raw_input_contents.append(struct.pack("<I", len(data)) + data)
    if empty_final:
        made.parameters["triton_enable_empty_final_response"].bool_param = True
    return made


def text_of(response):
    for output, raw in zip(response.outputs, response.raw_output_contents):
        if output.name == "text_output":
            (length,) = struct.unpack("<I", raw[:4])
            assert len(raw) == 4 + length and list(output.shape) == [1]
            return raw[4:].decode()
    return ""


def final(response):
    return response.parameters["triton_final_response"].bool_param


metadata = channel.unary_unary(
    service + "ModelMetadata", lambda m: m.SerializeToString(), message("ModelMetadataResponse").FromString
)(message("ModelMetadataRequest")(name="lm"), timeout=300)
assert [t.name for t in metadata.inputs][:3] == ["text_input", "stream", "sampling_parameters"]
config = channel.unary_unary(
    service + "ModelConfig", lambda m: m.SerializeToString(), message("ModelConfigResponse").FromString
)(message("ModelConfigRequest")(name="lm"), timeout=300).config
assert config.model_transaction_policy.decoupled and config.max_batch_size == 0
print("ok metadata")

whole = text_of(infer(request("The heartwood"), timeout=300))
assert whole.startswith("The heartwood") and len(whole) > len("The heartwood")
print("ok once")

answers = list(stream(iter([request("The heartwood", streamed=True, id="a")]), timeout=300))
assert all(not a.error_message and a.infer_response.id == "a" for a in answers)
assert len(answers) > 2 and [final(a.infer_response) for a in answers] == [False] * (len(answers) - 1) + [True]
assert "The heartwood" + "".join(text_of(a.infer_response) for a in answers) == whole
print("ok stream")

answers = list(stream(iter([request("The heartwood", streamed=True, empty_final=True)]), timeout=300))
assert final(answers[-1].infer_response) and len(answers[-1].infer_response.outputs) == 0
assert "The heartwood" + "".join(text_of(a.infer_response) for a in answers) == whole
print("ok empty final response")

requests = [request("The heartwood", streamed=True, id=str(i), parameters={"seed": i}) for i in range(6)]
requests[2] = request("The heartwood", streamed=True, id="2", parameters={"top_p": 7})
requests[4] = request("The heartwood", id="4", model_version="99")
answers = list(stream(iter(requests), timeout=300))
failed = [a.infer_response.id for a in answers if a.error_message]
assert sorted(failed) == ["2", "4"], answers
for i in ["0", "1", "3", "5"]:
    own = [a.infer_response for a in answers if a.infer_response.id == i]
    assert "The heartwood" + "".join(map(text_of, own)) == whole and final(own[-1])
print("ok errors")

endless = request("The heartwood", parameters={"max_tokens": 900}, streamed=True)
call = stream(iter([endless]), timeout=300)
next(call)
call.cancel()
try:
    for _ in call:
        pass
    raise AssertionError("a stream that was cancelled went on to its end")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.CANCELLED
assert text_of(infer(request("The heartwood"), timeout=300)) == whole
print("ok cancellation")
