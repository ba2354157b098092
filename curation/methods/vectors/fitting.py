"""A head from labelled vectors: ridge or logistic regression, or one hidden layer in front of either.

The loss is a mean over the labels plus l2 / 2 times the squared weights (biases are free): half the squared error for
ridge, the cross-entropy for logistic. Sums are in float64 over blocks of rows, so memory is that of the vectors; the
same rows in the same order give the same weights. X are vectors [N, D], y labels [N], H hidden units.
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["ridge", "logistic"]
_ROWS = 8192
_MOST_STEPS = 2_000

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]
"""float64 weights [out, in] and biases [out] of each layer; relu between two."""


class Fitted(NamedTuple):
    """steps: of the optimiser; 0 for a solved system."""

    layers: Layers
    steps: int
    converged: bool


def fit(vectors: np.ndarray, labels: np.ndarray, kind: Kind, l2: float, hidden: int | None, seed: int) -> Fitted:
    """The head that minimises the loss. `labels`: any numbers for ridge, from 0 to 1 for logistic. A hidden layer is
    drawn by `seed` and ends in a local minimum."""
    labels = labels.astype(np.float64)
    if hidden is None and kind == "ridge":
        return Fitted(_ridge(vectors, labels, l2), 0, True)
    return _descended(vectors, labels, kind, l2, _first(vectors.shape[1], hidden, labels, kind, seed))


def outputs(vectors: np.ndarray, layers: Layers, kind: Kind) -> np.ndarray:
    """float64 [row]: what the head says; of a logistic one the probability."""
    made = [_forward(block, layers)[-1][:, 0] for _, block in _blocks(vectors)]
    plain = np.concatenate([np.zeros(0), *made])
    return _sigmoid(plain) if kind == "logistic" else plain


def quality(said: np.ndarray, labels: np.ndarray, kind: Kind) -> dict[str, float]:
    """On labels that were not fitted: loss, and R2 with the correlation, or the area under the ROC curve."""
    from scipy.stats import rankdata

    if kind == "ridge":
        rest, spread = float(((said - labels) ** 2).mean()), float(labels.var())
        found = {"loss": rest / 2, "r2": 1 - rest / spread if spread else 0.0}
        related = np.corrcoef(said, labels)[0, 1] if spread and said.var() else 0.0
        return found | {"correlation": float(related)}
    told = np.clip(said, 1e-12, 1 - 1e-12)
    found = {"loss": float(-(labels * np.log(told) + (1 - labels) * np.log(1 - told)).mean())}
    yes = labels >= 0.5
    if yes.any() and not yes.all():
        ranks = rankdata(said)
        area = (ranks[yes].sum() - yes.sum() * (yes.sum() + 1) / 2) / (yes.sum() * (~yes).sum())
        found["auc"] = float(area)
    return found


def _ridge(vectors: np.ndarray, labels: np.ndarray, l2: float) -> Layers:
    """In closed form, on centred numbers, so that the bias is free."""
    rows, width = vectors.shape
    mean = sum((block.sum(axis=0) for _, block in _blocks(vectors)), np.zeros(width)) / rows
    middle = labels.mean()
    square, mixed = np.zeros((width, width)), np.zeros(width)
    for at, block in _blocks(vectors):
        block = block - mean
        square += block.T @ block
        mixed += block.T @ (labels[at : at + len(block)] - middle)
    weight = np.linalg.solve(square / rows + l2 * np.eye(width), mixed / rows)
    return ((weight[None], np.array([middle - weight @ mean])),)


def _first(width: int, hidden: int | None, labels: np.ndarray, kind: Kind, seed: int) -> Layers:
    middle = float(labels.mean())
    if kind == "logistic":
        middle = float(np.log((middle + 1e-6) / (1 - middle + 1e-6)))
    if hidden is None:
        return ((np.zeros((1, width)), np.array([middle])),)
    draw = np.random.default_rng(seed)
    first = draw.normal(scale=np.sqrt(2), size=(hidden, width))  # of vectors of unit length: units of about one
    last = draw.normal(scale=0.1 / np.sqrt(hidden), size=(1, hidden))
    return ((first, np.zeros(hidden)), (last, np.array([middle])))


def _descended(vectors: np.ndarray, labels: np.ndarray, kind: Kind, l2: float, start: Layers) -> Fitted:
    from scipy.optimize import minimize

    def told(flat: np.ndarray) -> tuple[float, np.ndarray]:
        return _loss(vectors, labels, kind, l2, _unpacked(flat, start))

    limits = {"maxiter": _MOST_STEPS, "maxfun": 2 * _MOST_STEPS, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}
    found = minimize(told, _packed(start), jac=True, method="L-BFGS-B", options=limits)
    return Fitted(_unpacked(found.x, start), int(found.nit), bool(found.success))


def _loss(vectors: np.ndarray, labels: np.ndarray, kind: Kind, l2: float, layers: Layers) -> tuple[float, np.ndarray]:
    """(loss, its gradient, packed)."""
    total, grads = 0.0, [(l2 * weight, np.zeros(len(bias))) for weight, bias in layers]
    for at, block in _blocks(vectors):
        wanted, values = labels[at : at + len(block)], _forward(block, layers)
        plain = values[-1][:, 0]
        if kind == "ridge":
            total += float(((plain - wanted) ** 2).sum()) / 2
            slope = plain - wanted
        else:
            total += float((np.logaddexp(0, plain) - wanted * plain).sum())
            slope = _sigmoid(plain) - wanted
        back = slope[:, None] / len(vectors)
        for at_layer in range(len(layers) - 1, -1, -1):
            weight, bias = grads[at_layer]
            weight += back.T @ values[at_layer]
            bias += back.sum(axis=0)
            back = (back @ layers[at_layer][0]) * (values[at_layer] > 0) if at_layer else back
    penalty = sum(float((weight**2).sum()) for weight, _ in layers) * l2 / 2
    return total / len(vectors) + penalty, _packed(tuple(grads))


def _forward(block: np.ndarray, layers: Layers) -> list[np.ndarray]:
    """What goes into each layer, and what comes out of the last."""
    values = [block]
    for number, (weight, bias) in enumerate(layers):
        out = values[-1] @ weight.T + bias
        values.append(np.maximum(out, 0) if number + 1 < len(layers) else out)
    return values


def _blocks(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for at in range(0, len(vectors), _ROWS):
        yield at, vectors[at : at + _ROWS].astype(np.float64)


def _packed(layers: Layers) -> np.ndarray:
    return np.concatenate([each.ravel() for layer in layers for each in layer])


def _unpacked(flat: np.ndarray, like: Layers) -> Layers:
    made, at = [], 0
    for weight, bias in like:
        middle, stop = at + weight.size, at + weight.size + bias.size
        made.append((flat[at:middle].reshape(weight.shape), flat[middle:stop]))
        at = stop
    return tuple(made)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    found: Callable[[np.ndarray], np.ndarray] = expit
    return found(values)
