"""What the embedded server refuses by name, on both protocols: it would change what an output is."""

import pytest
from tritonclient.grpc import service_pb2 as pb

from mesh.model_server.errors import ServingError, StatusCode
from mesh.model_server.runtime import OnnxModel
from mesh.model_server.v2 import grpc_parameters, rest_request
from tests.mesh.model_server import graphs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel(graphs.scaling(tmp_path_factory.mktemp("scaling")) / "model.onnx")


def body(parameters: str) -> bytes:
    inputs = '[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]'
    return f'{{"inputs":{inputs},"outputs":[{{"name":"y","parameters":{parameters}}}]}}'.encode()


def test_classes_of_an_output_are_refused_over_rest(model: OnnxModel) -> None:
    with pytest.raises(ServingError, match="classification of outputs is not supported") as caught:
        rest_request.decode("scaling", model, body('{"classification":1}'), None)
    assert caught.value.code is StatusCode.INVALID_ARGUMENT
    assert rest_request.decode("scaling", model, body('{"classification":0}'), None).outputs == ["y"]


def test_classes_of_an_output_are_refused_over_grpc() -> None:
    with pytest.raises(ServingError, match="classification of outputs is not supported") as caught:
        grpc_parameters.check_output("y", {"classification": pb.InferParameter(int64_param=1)})
    assert caught.value.code is StatusCode.INVALID_ARGUMENT


def test_shared_memory_is_refused_over_both_as_a_region_that_is_not_there(model: OnnxModel) -> None:
    for refused in (
        lambda: rest_request.decode("scaling", model, body('{"shared_memory_region":"r"}'), None),
        lambda: grpc_parameters.check_output(
            "y",
            {
                "shared_memory_region": pb.InferParameter(string_param="r"),
                "shared_memory_byte_size": pb.InferParameter(int64_param=8),
            },
        ),
    ):
        with pytest.raises(ServingError, match="Unable to find shared memory region: 'r'") as caught:
            refused()
        assert caught.value.code is StatusCode.NOT_FOUND
