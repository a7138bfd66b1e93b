"""The models of the demo: trained in seconds on the handwritten digits that scikit-learn ships.

Four kinds, from the costliest and most exact to the cheapest and roughest; each tenant has its own copy of each,
trained on its own sample of the images, so no two models are the same.
"""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import sklearn
from onnx import ModelProto
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.svm import SVC

from integration.stack import onnx_graphs

TENANTS = ("acme", "birch", "cobalt", "delta", "ember", "fjord")
KINDS = ("forest", "svm", "bayes", "centroid")

_SEED = 20_240_917
_HELD_OUT = 600
_TREES = 200
# The cost of training a support vector machine grows with the square of its sample.
_SVM_SAMPLE = 300
_SVM_GAMMA = 0.001
# About the mean squared distance between an image and its own centroid.
_CENTROID_SPREAD = 100.0

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """Images, float32 [N, 64] with grey values 0 to 16, and the digit on each, int64 [N]."""

    images: Floats
    labels: Labels

    def sample(self, rng: np.random.Generator, size: int) -> "Digits":
        """`size` images drawn with replacement."""
        rows = rng.integers(0, len(self.images), size)
        return Digits(self.images[rows], self.labels[rows])


@cache
def digits() -> tuple[Digits, Digits]:
    """The images to learn from, and those held out to measure the accuracy on."""
    raw = load_digits()
    images, held_images, labels, held_labels = train_test_split(
        raw.data, raw.target, test_size=_HELD_OUT, random_state=_SEED, stratify=raw.target
    )
    return (
        Digits(images.astype(np.float32), labels.astype(np.int64)),
        Digits(held_images.astype(np.float32), held_labels.astype(np.int64)),
    )


def _forest(sample: Digits, seed: int) -> ModelProto:
    forest = ExtraTreesClassifier(_TREES, random_state=seed, n_jobs=-1).fit(sample.images, sample.labels)
    return onnx_graphs.from_forest(forest)


def _svm(sample: Digits, seed: int) -> ModelProto:
    part = sample.sample(np.random.default_rng(seed), _SVM_SAMPLE)
    return onnx_graphs.from_svm(OneVsRestClassifier(SVC(gamma=_SVM_GAMMA)).fit(part.images, part.labels))


def _bayes(sample: Digits, seed: int) -> ModelProto:
    return onnx_graphs.from_bayes(GaussianNB(var_smoothing=1e-2).fit(sample.images, sample.labels))


def _centroid(sample: Digits, seed: int) -> ModelProto:
    with warnings.catch_warnings():
        # It warns that some pixels at the edge are always white.
        warnings.simplefilter("ignore", UserWarning)
        centroid = NearestCentroid().fit(sample.images, sample.labels)
    return onnx_graphs.from_centroid(centroid, _CENTROID_SPREAD)


_TRAIN: dict[str, Callable[[Digits, int], ModelProto]] = {
    "forest": _forest,
    "svm": _svm,
    "bayes": _bayes,
    "centroid": _centroid,
}


def model_name(tenant: str, kind: str) -> str:
    """The name under which a tenant's copy is served."""
    return f"{tenant}-{kind}"


def train(kind: str, seed: int) -> ModelProto:
    """Trains one copy on its own sample of the images and writes it down as an ONNX graph."""
    images = digits()[0]
    return _TRAIN[kind](images.sample(np.random.default_rng(seed), len(images.images)), seed)


def repository(
    tenants: Sequence[str] = TENANTS,
    kinds: Sequence[str] = KINDS,
    tell: Callable[[str], None] = lambda name: None,
) -> Path:
    """A folder `<name>/1/model.onnx` with every tenant's copy of every kind.

    Trained when first asked for and kept for later, under a key of everything that decides its content. `tell` gets
    each model's name as it is made.
    """
    folder = cache_folder() / f"models-{recipe(of=(tenants, kinds))}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="training-") as unfinished:
        trained = Path(unfinished) / "models"
        for number, tenant in enumerate(tenants):
            for kind in kinds:
                name = model_name(tenant, kind)
                tell(name)
                version = trained / name / "1"
                version.mkdir(parents=True)
                (version / "model.onnx").write_bytes(train(kind, _SEED + number).SerializeToString())
        # Somebody else may have trained at the same time: theirs is the same.
        if not folder.is_dir():
            trained.rename(folder)
    return folder


def cache_folder() -> Path:
    """Where what was made once is kept: build/ of a checkout, else the user's cache."""
    build = Path(__file__).resolve().parents[2] / "build"
    if build.is_dir():
        return build
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tbms"


def recipe(*sources: Path, of: object = ()) -> str:
    """The key of what is made by these source files and those here, with these versions, `of` something."""
    made = hashlib.sha256()
    for source in (Path(__file__), Path(onnx_graphs.__file__), *sources):
        made.update(source.read_bytes())
    made.update(repr((sklearn.__version__, onnx.__version__, np.__version__, of)).encode())
    return made.hexdigest()[:12]
