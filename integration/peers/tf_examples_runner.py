"""Classify and Regress as TensorFlow answers them: runs in build/tf-client, beside the client of `tf_client_runner`.

TF Serving itself is no Python package; its messages, the parsing of examples and the arithmetic are. What is done with
an Input is what `servables/tensorflow` of TF Serving does: the context of a list is written before each of its
examples, all are parsed by `tf.io.parse_example`, and each gets its own result.

Prints the port as a line, and serves until stdin ends.
"""

# mypy: disable-error-code="import-untyped,import-not-found,misc"

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, prediction_service_pb2_grpc, regression_pb2

FEATURES = {
    "x": tf.io.FixedLenFeature([2], tf.float32),
    "scale": tf.io.FixedLenFeature([], tf.float32, 1.0),
    "words": tf.io.VarLenFeature(tf.string),
}


def _parsed(given: Any) -> Any:
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        examples = given.example_list_with_context.examples
    else:
        context, examples = b"", given.example_list.examples
    if not examples:
        raise ValueError("Input is empty")
    return tf.io.parse_example([context + example.SerializeToString() for example in examples], FEATURES)


class Examples(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Scores are the two numbers of `x` times `scale`; the labels are the example's words, if it has two."""

    def Classify(self, request: Any, context: Any) -> Any:
        """A ClassificationResponse."""
        try:
            parsed = _parsed(request.input)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:200])
        scores = (parsed["x"] * parsed["scale"][:, None]).numpy()
        words = tf.sparse.to_dense(parsed["words"]).numpy()
        reply = classification_pb2.ClassificationResponse()
        reply.model_spec.name = request.model_spec.name
        reply.model_spec.version.value = 3
        for row, score in enumerate(scores):
            result = reply.result.classifications.add()
            for place, value in enumerate(score):
                label = words[row][place].decode() if place < words.shape[1] else ""
                result.classes.add(label=label, score=value)
        return reply

    def Regress(self, request: Any, context: Any) -> Any:
        """A RegressionResponse."""
        try:
            parsed = _parsed(request.input)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:200])
        reply = regression_pb2.RegressionResponse()
        reply.model_spec.name = request.model_spec.name
        for value in (tf.reduce_sum(parsed["x"], 1) * parsed["scale"]).numpy():
            reply.result.regressions.add(value=value)
        return reply


def main() -> None:
    """Serve until stdin ends."""
    server = grpc.server(ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Examples(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
