"""Calls a server with Triton's own client for Python.

usage: tritonclient_client.py ADDRESS. The server has loaded versions 1 and 2 of the model `net` of services/server/testing, under explicit
control. Prints `ok` for each part that held; ends with an exception otherwise.
"""

import queue
import sys

import numpy
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

client = grpcclient.InferenceServerClient(sys.argv[1])


def pixels(batch):
    values = numpy.empty([batch, 3, 8, 8], numpy.float32)
    for sample in range(batch):
        for channel in range(3):
            values[sample, channel] = 10 * sample + channel
    tensor = grpcclient.InferInput("pixel_values", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    return tensor


def refused(status, work):
    try:
        work()
    except InferenceServerException as error:
        assert error.status() == "StatusCode." + status, (error.status(), error.message())
        return
    raise AssertionError("expected " + status)


assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("net") and client.is_model_ready("net", "1") and not client.is_model_ready("absent")
assert "statistics" in client.get_server_metadata().extensions
assert list(client.get_model_metadata("net").versions) == ["1", "2"]
print("ok metadata")

result = client.infer(
    "net",
    [pixels(2)],
    model_version="1",
    request_id="a",
    outputs=[grpcclient.InferRequestedOutput("logits")],
    priority=1,
    timeout=60_000_000,
    parameters={"mine": "ignored"},
)
assert result.get_response().id == "a"
assert result.as_numpy("logits").tolist() == [[0, 1, 2], [10, 11, 12]]
print("ok inference")

outputs = [grpcclient.InferRequestedOutput("logits", class_count=2)]
answer = client.infer("net", [pixels(2)], model_version="1", outputs=outputs).as_numpy("logits")
assert answer.tolist() == [
    [b"2.000000:2:blue", b"1.000000:1:green"],
    [b"12.000000:2:blue", b"11.000000:1:green"],
], answer
print("ok classification")

answers = queue.Queue()
client.start_stream(callback=lambda result, error: answers.put((result, error)))
for number, model in enumerate(["net", "absent", "net"]):
    client.async_stream_infer(model, [pixels(1)], request_id=str(number), enable_empty_final_response=True)
received = [answers.get(timeout=300) for _ in range(3)]
client.stop_stream()
assert [error is not None for _, error in received] == [False, True, False], received
for result, error in received:
    assert error is not None or result.get_response().parameters["triton_final_response"].bool_param
print("ok stream")

config = client.get_model_config("net").config
assert config.name == "net" and config.max_batch_size == 8
statistics = client.get_inference_statistics("net", "1").model_stats
assert len(statistics) == 1 and statistics[0].inference_count == 4, statistics
print("ok configuration and statistics")

client.unload_model("net")
assert [m.state for m in client.get_model_repository_index().models] == ["UNAVAILABLE", "UNAVAILABLE"]
refused("UNAVAILABLE", lambda: client.infer("net", [pixels(1)]))
client.load_model("net")
assert [(m.name, m.version, m.state) for m in client.get_model_repository_index().models] == [
    ("net", "1", "READY"),
    ("net", "2", "READY"),
]
refused("INTERNAL", lambda: client.load_model("absent"))
refused("NOT_FOUND", lambda: client.get_model_metadata("absent"))
refused("UNIMPLEMENTED", lambda: client.get_system_shared_memory_status())
print("ok repository")
