"""Heads are the minimum of the stated loss, as others find it."""

import numpy as np
import pytest
from scipy.optimize import root
from scipy.special import expit

from curation.methods.vectors.fitting import fit, outputs, quality
from tests.helpers.lanes import sampled


def made(rows: int = 400, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, width))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    return vectors, vectors.astype(float) @ rng.normal(size=width) * 3 + 5 + rng.normal(scale=0.3, size=rows)


@pytest.mark.parametrize("l2", [1e-4, 1e-1, 3.0])
@pytest.mark.parametrize("rows", [4, 400, 9000])
def test_ridge_is_least_squares_with_rows_for_the_penalty(l2, rows):
    vectors, labels = made(rows)
    free = np.hstack([vectors.astype(float), np.ones((rows, 1))])
    penalty = np.sqrt(rows * l2) * np.eye(7)[:6]  # of the weights and not of the bias
    wanted = np.linalg.lstsq(np.vstack([free, penalty]), np.append(labels, np.zeros(6)), rcond=None)[0]
    ((weight, bias),) = fit(vectors, labels, "ridge", l2, None, 0).layers
    assert np.allclose(weight[0], wanted[:6], atol=1e-8) and np.allclose(bias, wanted[6], atol=1e-8)


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("soft", [False, True])
def test_logistic_is_where_the_gradient_is_nothing(l2, soft):
    vectors, values = made(300)
    labels = expit(values - 5) if soft else (values > 5).astype(float)
    x = vectors.astype(float)

    def gradient(flat):
        slope = expit(x @ flat[:6] + flat[6]) - labels
        return np.append(x.T @ slope / len(x) + l2 * flat[:6], slope.mean())

    wanted = root(gradient, np.zeros(7), tol=1e-13)
    assert wanted.success
    ((weight, bias),) = fit(vectors, labels, "logistic", l2, None, 0).layers
    assert np.allclose(np.append(weight[0], bias), wanted.x, atol=1e-4)


@pytest.mark.parametrize("kind", sampled(["ridge", "logistic"], 1))
def test_a_hidden_layer_ends_where_no_small_step_helps_and_sees_what_a_line_cannot(kind):
    vectors, _ = made(500, 4)
    x = vectors.astype(float)
    labels = (x[:, 0] * x[:, 1] > 0).astype(float)
    found = fit(vectors, labels, kind, 1e-4, 16, seed=1)

    def loss(layers):
        (first, b1), (last, b2) = layers
        plain = np.maximum(x @ first.T + b1, 0) @ last[0] + b2[0]
        if kind == "ridge":
            fits = (plain - labels) ** 2 / 2
        else:
            fits = np.log1p(np.exp(-np.abs(plain))) + np.maximum(plain, 0) - labels * plain
        return fits.mean() + 1e-4 / 2 * ((first**2).sum() + (last**2).sum())

    best = loss(found.layers)
    rng = np.random.default_rng(0)
    for _ in range(50):
        moved = [tuple(each + 1e-3 * rng.normal(size=each.shape) for each in layer) for layer in found.layers]
        assert loss(moved) > best
    said = quality(outputs(vectors, found.layers, kind), labels, "logistic" if kind == "logistic" else "ridge")
    line = quality(outputs(vectors, fit(vectors, labels, kind, 1e-4, None, 0).layers, kind), labels, kind)
    assert said["loss"] < 0.5 * line["loss"]


def test_the_same_rows_give_the_same_bits_and_another_seed_another_layer():
    vectors, labels = made(200)
    for hidden in (None, 5):
        one, two = (fit(vectors, labels, "ridge", 1e-3, hidden, 3).layers for _ in range(2))
        assert all(np.array_equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))
    assert not np.array_equal(one[0][0], fit(vectors, labels, "ridge", 1e-3, 5, 4).layers[0][0])


def test_figures_are_those_of_their_definitions():
    said, labels = np.array([0.1, 0.8, 0.4, 0.4, 0.9]), np.array([0.0, 0.0, 1.0, 0.0, 1.0])
    wins = [0.5 if a == b else float(a > b) for a in (0.4, 0.9) for b in (0.1, 0.8, 0.4)]
    assert np.isclose(quality(said, labels, "logistic")["auc"], np.mean(wins))
    found = quality(said, labels, "ridge")
    assert np.isclose(found["r2"], 1 - ((said - labels) ** 2).sum() / ((labels - labels.mean()) ** 2).sum())
    assert np.isclose(found["correlation"], np.corrcoef(said, labels)[0, 1])
