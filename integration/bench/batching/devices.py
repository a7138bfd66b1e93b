"""Models for a real Triton's Python backend whose batches cost a fixed time, as on a GPU that is far from full."""

from pathlib import Path

from integration.peers.triton import write_model

BATCH_SECONDS = 0.020
SWITCH_SECONDS = 0.030
MAX_ROWS = 10
THEORY = MAX_ROWS / BATCH_SECONDS
"""Rows per second of a model that is always asked for full batches."""

_CONFIG = """
backend: "python"
max_batch_size: 10
input [{ name: "x" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] }]
instance_group [{ kind: KIND_CPU count: 2 }]
"""
_GATHERS = "dynamic_batching { }\n"

# A device runs one batch at a time, whatever is in it; a model that did not run last has to be brought there first.
# Each model has two instances, so that one batch can be on its way while another one runs, as with a GPU. Like a GPU it
# goes on with what is there by itself, however long the processes around it need to wake: a file holds until when it
# has work, and which model ran last. What the process computes for a batch is within the batch's time.
_ON_DEVICE = f"""
import fcntl
import os
import struct
import time
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        self._name = args["model_name"].encode()
        self._device = os.open("DEVICE", os.O_RDWR | os.O_CREAT)

    def execute(self, requests):
        fcntl.flock(self._device, fcntl.LOCK_EX)
        try:
            found = os.pread(self._device, 100, 0)
            until, last = (struct.unpack("d", found[:8])[0], found[8:]) if found else (0.0, b"")
            until = max(until, time.monotonic()) + {BATCH_SECONDS} + (0.0 if last == self._name else {SWITCH_SECONDS})
            os.ftruncate(self._device, 0)
            os.pwrite(self._device, struct.pack("d", until) + self._name, 0)
        finally:
            fcntl.flock(self._device, fcntl.LOCK_UN)
        tensors = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        responses = [pb.InferenceResponse([pb.Tensor("y", tensor * 2)]) for tensor in tensors]
        time.sleep(max(0.0, until - time.monotonic()))
        return responses
"""


def write_on_device(shelf: Path, name: str, device: Path, *, gathers: bool) -> None:
    """A model on the device that the file `device` stands for; `gathers`: Triton's dynamic batcher is on."""
    write_model(shelf, name, _CONFIG + (_GATHERS if gathers else ""), _ON_DEVICE.replace("DEVICE", str(device)))
