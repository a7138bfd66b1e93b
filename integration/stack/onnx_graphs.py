"""Trained scikit-learn classifiers as ONNX graphs, written down directly.

Every graph has the same face: input `image` float32 [N, features], outputs `label` int64 [N] and `probabilities`
float32 [N, classes], so that the answers of different models can be compared and combined. Three of the four models
are plain algebra, the fourth is ONNX's own tree operator (integration/README.md).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid

# Old enough for every ONNX Runtime that we accept.
_OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
_IR_VERSION = 8

Array = npt.NDArray[Any]


def from_forest(forest: ExtraTreesClassifier) -> ModelProto:
    """An ensemble of trees: each votes with the class shares of the leaf that the image falls into."""
    trees = [estimator.tree_ for estimator in forest.estimators_]
    columns: dict[str, list[Array]] = {}

    def add(**parts: Array) -> None:
        for name, part in parts.items():
            columns.setdefault(name, []).append(part)

    for number, tree in enumerate(trees):
        node_ids = np.arange(tree.node_count)
        is_leaf = tree.children_left < 0
        shares = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True) / len(trees)
        voters, classes = np.nonzero(is_leaf[:, None] & (shares > 0))
        add(
            nodes_treeids=np.full(tree.node_count, number),
            nodes_nodeids=node_ids,
            nodes_featureids=np.where(is_leaf, 0, tree.feature),
            nodes_modes=np.where(is_leaf, b"LEAF", b"BRANCH_LEQ"),
            nodes_values=np.where(is_leaf, 0.0, tree.threshold).astype(np.float32),
            nodes_truenodeids=np.where(is_leaf, 0, tree.children_left),
            nodes_falsenodeids=np.where(is_leaf, 0, tree.children_right),
            class_treeids=np.full(len(voters), number),
            class_nodeids=voters,
            class_ids=classes,
            class_weights=shares[voters, classes].astype(np.float32),
        )
    attributes = {name: np.concatenate(parts).tolist() for name, parts in columns.items()}
    ensemble = helper.make_node(
        "TreeEnsembleClassifier",
        ["image"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        classlabels_int64s=forest.classes_.tolist(),
        post_transform="NONE",
        **attributes,
    )
    return _model("forest", forest.n_features_in_, len(forest.classes_), [ensemble], {})


def from_svm(svm: OneVsRestClassifier) -> ModelProto:
    """One RBF support vector machine for each class against the rest; softmax over their margins.

    The kernel of an image and a support vector is exp(2g x.v - g|x|^2 - g|v|^2).
    """
    machines = svm.estimators_
    gamma = machines[0].gamma
    vectors = np.concatenate([machine.support_vectors_ for machine in machines])
    weights = np.zeros((len(vectors), len(machines)))
    row = 0
    for column, machine in enumerate(machines):
        weights[row : row + len(machine.support_vectors_), column] = machine.dual_coef_[0]
        row += len(machine.support_vectors_)
    nodes = [
        helper.make_node("Gemm", ["image", "vectors", "vector_norms"], ["products"]),
        helper.make_node("ReduceSumSquare", ["image"], ["square"], axes=[1]),
        helper.make_node("Mul", ["square", "gamma"], ["norm"]),
        helper.make_node("Sub", ["products", "norm"], ["exponent"]),
        helper.make_node("Exp", ["exponent"], ["kernel"]),
        helper.make_node("Gemm", ["kernel", "weights", "intercepts"], ["scores"]),
        *_verdict(),
    ]
    constants = {
        "vectors": 2 * gamma * vectors.T,
        "vector_norms": -gamma * (vectors**2).sum(axis=1),
        "gamma": np.array([gamma]),
        "weights": weights,
        "intercepts": np.array([machine.intercept_[0] for machine in machines]),
    }
    return _model("svm", vectors.shape[1], len(machines), nodes, constants)


def from_bayes(bayes: GaussianNB) -> ModelProto:
    """Gaussian naive Bayes: the log-likelihood is a quadratic form of the pixels."""
    precision = 1 / bayes.var_
    nodes = [
        helper.make_node("Mul", ["image", "image"], ["squares"]),
        helper.make_node("Gemm", ["squares", "precisions", "constant"], ["quadratic"]),
        helper.make_node("MatMul", ["image", "slopes"], ["linear"]),
        helper.make_node("Add", ["quadratic", "linear"], ["scores"]),
        *_verdict(),
    ]
    constants = {
        "precisions": -0.5 * precision.T,
        "slopes": (bayes.theta_ * precision).T,
        "constant": np.log(bayes.class_prior_)
        - 0.5 * (np.log(2 * np.pi * bayes.var_) + bayes.theta_**2 * precision).sum(axis=1),
    }
    return _model("bayes", bayes.n_features_in_, len(bayes.classes_), nodes, constants)


def from_centroid(centroid: NearestCentroid, spread: float) -> ModelProto:
    """Nearest centroid: the squared distance is linear in the pixels, up to a term that all classes share.

    `spread` (pixel units, squared) is the distance that divides a probability by e.
    """
    centers = centroid.centroids_
    nodes = [helper.make_node("Gemm", ["image", "centers", "norms"], ["scores"]), *_verdict()]
    constants = {"centers": 2 * centers.T / spread, "norms": -(centers**2).sum(axis=1) / spread}
    return _model("centroid", centers.shape[1], len(centers), nodes, constants)


def from_layers(weights: Sequence[Array], shifts: Sequence[Array | None]) -> ModelProto:
    """A network of dense layers, ReLU between them; `weights` are [inputs, outputs], a shift may be missing."""
    nodes, constants, value = [], {}, "image"
    for number, (weight, shift) in enumerate(zip(weights, shifts, strict=True)):
        last = number == len(weights) - 1
        made, named = "scores" if last else f"layer{number}", f"weights{number}"
        constants[named] = weight
        inputs = [value, named]
        if shift is not None:
            constants[f"shift{number}"] = shift
            inputs.append(f"shift{number}")
        nodes.append(helper.make_node("Gemm", inputs, [made]))
        value = made
        if not last:
            value = f"active{number}"
            nodes.append(helper.make_node("Relu", [made], [value]))
    nodes += _verdict()
    return _model("network", weights[0].shape[0], weights[-1].shape[1], nodes, constants)


def _verdict() -> list[NodeProto]:
    return [
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]


def _model(
    name: str, features: int, classes: int, nodes: Sequence[NodeProto], constants: dict[str, Array]
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", features])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=_OPSETS, ir_version=_IR_VERSION, producer_name="tbms")
    checker.check_model(model)
    return model
