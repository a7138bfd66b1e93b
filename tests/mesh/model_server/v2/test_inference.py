"""What Triton checks of inputs and outputs, in its order; hostile requests cost no more than their size."""

from pathlib import Path

import pytest

from mesh.model_server.errors import ServingError
from mesh.model_server.runtime import OnnxModel
from mesh.model_server.v2.inference import Tensor, check_inputs, check_names, choose_outputs
from tests.mesh.model_server import graphs

MANY = 300_000  # for which comparing each with each would take hours


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    folder = tmp_path_factory.mktemp("models") / "two" / "1"
    graphs.two(folder)
    (file,) = Path(folder).glob("*.onnx")
    return OnnxModel(file)


def test_an_input_that_comes_twice_is_named_before_anything_else() -> None:
    given = [Tensor("a", "FP32", (1,)), Tensor("nobody", "FP32", (1,)), Tensor("a", "FP32", (1,))]
    with pytest.raises(ServingError, match="input 'a' already exists in request"):
        check_names("", [tensor.name for tensor in given])


def test_many_inputs_are_refused_in_time_that_grows_with_their_number(model: OnnxModel) -> None:
    given = [Tensor(f"x{number}", "FP32", (1,)) for number in range(MANY)]
    with pytest.raises(ServingError, match=f"expected 2 inputs but got {MANY} inputs"):
        check_inputs("two", "", model, given)


def test_outputs_come_in_the_order_of_the_model_however_often_they_are_asked_for(model: OnnxModel) -> None:
    names = [spec.name for spec in model.outputs]
    assert choose_outputs("two", model, ()) == names
    assert choose_outputs("two", model, names[::-1] * MANY) == names
    with pytest.raises(ServingError, match="unexpected inference output 'nobody'"):
        choose_outputs("two", model, [*names, "nobody"])
