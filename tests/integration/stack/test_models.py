import numpy as np
import onnxruntime
import pytest
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.svm import SVC

from integration.stack import models, onnx_graphs


@pytest.fixture(scope="module")
def sample() -> models.Digits:
    return models.digits()[0].sample(np.random.default_rng(1), 400)


def answers(graph: object, images: models.Floats) -> tuple[models.Labels, models.Floats]:
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    labels, probabilities = session.run(["label", "probabilities"], {"image": images})
    assert labels.dtype == np.int64
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (len(images), 10)
    return labels, probabilities


def test_the_forest_answers_as_scikit_learn_does(sample: models.Digits) -> None:
    forest = ExtraTreesClassifier(20, random_state=3).fit(sample.images, sample.labels)
    held = models.digits()[1].images
    labels, probabilities = answers(onnx_graphs.from_forest(forest), held)
    np.testing.assert_allclose(probabilities, forest.predict_proba(held), atol=1e-5)
    assert (labels == forest.predict(held)).mean() > 0.99  # ties of votes may fall either way


def test_the_svm_answers_as_scikit_learn_does(sample: models.Digits) -> None:
    svm = OneVsRestClassifier(SVC(gamma=0.001)).fit(sample.images, sample.labels)
    held = models.digits()[1].images
    labels, probabilities = answers(onnx_graphs.from_svm(svm), held)
    margins = svm.decision_function(held)
    softmax = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, softmax, atol=1e-4)
    np.testing.assert_array_equal(labels, svm.predict(held))


def test_naive_bayes_answers_as_scikit_learn_does(sample: models.Digits) -> None:
    bayes = GaussianNB(var_smoothing=1e-2).fit(sample.images, sample.labels)
    held = models.digits()[1].images
    labels, probabilities = answers(onnx_graphs.from_bayes(bayes), held)
    np.testing.assert_allclose(probabilities, bayes.predict_proba(held), atol=1e-3)
    np.testing.assert_array_equal(labels, bayes.predict(held))


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
def test_nearest_centroid_answers_as_scikit_learn_does(sample: models.Digits) -> None:
    centroid = NearestCentroid().fit(sample.images, sample.labels)
    held = models.digits()[1].images
    labels, _ = answers(onnx_graphs.from_centroid(centroid, 100.0), held)
    np.testing.assert_array_equal(labels, centroid.predict(held))


def test_the_kinds_rank_by_accuracy() -> None:
    held = models.digits()[1]
    shares = [(answers(models.train(kind, 5), held.images)[0] == held.labels).mean() for kind in models.KINDS]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.97
    assert shares[-1] > 0.85


def test_tenants_differ_and_training_repeats_itself() -> None:
    first, again, other = (models.train("centroid", seed).SerializeToString() for seed in (1, 1, 2))
    assert first == again
    assert first != other
