"""A wide network that reads digits: on a CPU what a large model is on a GPU, since a row waits for all of its weights.

Two layers of random weights, and a readout that is fitted to what they make of the images (a random-feature network).
Its weights are some 40 MB: a row alone is bound by reading them, and thirty rows read them once.
"""

from pathlib import Path

import numpy as np
from onnx import ModelProto
from sklearn.linear_model import Ridge

from integration.stack import models, onnx_graphs

NAME = "network"
WIDTH = 3072
_SEED = 20_240_917
_GREYS = 16.0
_PENALTY = 10.0


def trained() -> ModelProto:
    """The network, fitted to the images that the other models learn from."""
    images, labels = models.digits()[0].images, models.digits()[0].labels
    rng = np.random.default_rng(_SEED)
    first = rng.normal(size=(images.shape[1], WIDTH)).astype(np.float32) / (np.sqrt(images.shape[1]) * _GREYS / 4)
    second = rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / np.sqrt(WIDTH / 2)
    shift = rng.normal(size=WIDTH).astype(np.float32) * 0.1
    features = np.maximum(np.maximum(images @ first + shift, 0) @ second, 0)
    readout = Ridge(alpha=_PENALTY).fit(features, np.eye(10)[labels])
    return onnx_graphs.from_layers([first, second, readout.coef_.T], [shift, None, readout.intercept_])


def write(shelf: Path) -> None:
    """Writes it into a store's folder; trained when first asked for, and kept for later."""
    kept = models.cache_folder() / f"network-{models.recipe(Path(__file__))}.onnx"
    if not kept.exists():
        unfinished = kept.with_suffix(".new")
        unfinished.write_bytes(trained().SerializeToString())
        unfinished.replace(kept)
    version = shelf / NAME / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(kept.read_bytes())
