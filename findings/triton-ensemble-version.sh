#!/usr/bin/env bash
# Triton: a step of an ensemble that leaves `model_version` out asks for version 0, not for the newest version.
#
# Elsewhere in Triton a version that is not said means the newest one: in the path of a call, in ModelInferRequest, in a
# request that a Python model makes itself. In `ensemble_scheduling` the field is a plain number of proto3, and what is
# left out is read as 0; only -1 follows the newest. The ensemble then does not load, though its part is there:
#   ensemble 'unsaid' depends on 'part' whose required version 0 is not loaded.
# Loading an ensemble brings its parts (explicit mode), and its own version folder may be empty.
#
# Needs: python3 with its shared library (libpython3.x), curl, and the package index. Fails where something else is seen.
set -euo pipefail

work=$(mktemp -d)
server=
trap 'test -z "$server" || { kill "$server"; wait "$server" || true; } 2>/dev/null; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check nvidia-pytriton==0.7.0
python=$("$work/venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
packages=$work/venv/lib/python$python/site-packages
triton=$packages/pytriton/tritonserver

# The backend looks for its stub beside itself; the package has one for each version of Python.
cp -r "$triton/backends/python" "$work/python"
cp "$triton/python_backend_stubs/$python/triton_python_backend_stub" "$work/python/"

models=$work/models
mkdir -p "$models/part/1" "$models/unsaid/1" "$models/newest/1"
cat >"$models/part/config.pbtxt" <<'CONFIG'
backend: "python"
input [{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }]
CONFIG
cat >"$models/part/1/model.py" <<'PYTHON'
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("y", tensor * 2)]) for tensor in tensors]
PYTHON
ensemble() { # name, version
    cat >"$models/$1/config.pbtxt" <<CONFIG
platform: "ensemble"
input [{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }]
ensemble_scheduling {
  step [{ model_name: "part" $2 input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } }]
}
CONFIG
}
ensemble unsaid ""
ensemble newest "model_version: -1"

port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
LD_LIBRARY_PATH=$packages/nvidia_pytriton.libs PATH=$work/venv/bin:$PATH "$triton/bin/tritonserver" \
    --model-repository="$models" --backend-directory="$work" --model-control-mode=explicit --allow-grpc=false \
    --allow-metrics=false --http-address=127.0.0.1 --http-port="$port" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 100); do
    curl -sf "http://127.0.0.1:$port/v2/health/ready" && break
    sleep 0.3
done

curl -s "http://127.0.0.1:$port/v2" | "$work/venv/bin/python" -c 'import json, sys; print("Triton", json.load(sys.stdin)["version"])'
load() { curl -s -o "$work/reply" -w '%{http_code}' -X POST "http://127.0.0.1:$port/v2/repository/models/$1/load"; }
fail() { echo "seen: $1"; cat "$work/reply"; exit 1; }

status=$(load newest)
echo "model_version: -1      -> $status"
test "$status" = 200 || fail "the ensemble that says -1 did not load"
status=$(load unsaid)
echo "model_version left out -> $status $(cat "$work/reply")"
test "$status" = 400 || fail "the ensemble that says no version loaded"
grep -q "depends on 'part' whose required version 0 is not loaded" "$work/reply" || fail "another reason"
