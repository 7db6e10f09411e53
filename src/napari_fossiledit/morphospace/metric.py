"""Learn a linear map of features after which items of one class lie near each other.

It starts from a closed form with two parts: the directions in which classes differ, in units of
what items of one class differ by (a regularised discriminant), and the principal axes of all
features, so that classes that were never seen keep their differences. A triplet and a softmax loss
then turn it on changed copies of the pictures; that combination is the one of Karaderi et al. 2022,
Visual microfossil identification via deep metric learning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.morphospace import MetricParams
from napari_fossiledit.progress import QUIET, Job

Floats = NDArray[np.floating]

_LIFT = 1.5
"""Constant last coordinate of a point before it is brought to length 1, in units of the others.

Without it only the direction from the mean counts, and an item in the middle of all has none: on
fusulinids (development folds) accuracy and macro F1 are .01 to .02 less.
"""
_PULL = 10.0
"""Weight of the squared distance from the closed form, of which few pictures can tell better."""
_PER_CLASS = 4
_TEMPERATURE = 0.1
_LATE_RATE = 0.02
"""Step of the backbone's last stage, relative to that of the softmax: it knows a lot already."""


class Head(nn.Module):
    """Bring features to one scale, map them linearly and to length 1: (n, q) to (n, d)."""

    unit: Tensor
    mean: Tensor

    def __init__(self, unit: Tensor, mean: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("unit", unit)
        self.register_buffer("mean", mean)
        self.weight = nn.Parameter(weight)

    def forward(self, features: Tensor) -> Tensor:
        """Return points of length 1."""
        mapped = (features * self.unit - self.mean) @ self.weight.T
        lifted = nn.functional.pad(mapped, (0, 1), value=_LIFT)
        return nn.functional.normalize(lifted, dim=1)


def closed_form(
    features: Floats, labels: NDArray[np.integer], params: MetricParams
) -> tuple[Floats, Floats]:
    """Return mean (q,) and map (d, q) before any training; mapped items have mean square 1.

    Each class counts alike. With S the covariance inside classes and s the shrinkage, features are
    whitened by ((1 - s) S + s tr(S) / r I)^(-1/2), r their rank, and turned so that the directions
    come first in which the means of classes differ most: there are as many as classes, less one.

    Parameters
    ----------
    features
        (n, q) of the items.
    labels
        (n,) classes as 0, 1, ...

    Raises
    ------
    FossilError
        Where all features are the same.
    """
    counts = np.bincount(labels)
    classes = len(counts)
    weights = 1 / (counts[labels] * classes)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(classes)])
    centre = means.mean(axis=0)
    # All that the items span: beyond it nothing is known, and q is far larger than n.
    _, sizes, axes = np.linalg.svd(features - centre, full_matrices=False)
    axes = axes[sizes > 1e-6 * sizes[0]]
    if not len(axes):
        raise FossilError(
            "All pictures look the same: there is nothing to learn",
            expected="pictures that differ",
            found=f"{len(features)} with the same features",
        )
    inside = (features - means[labels]) @ axes.T
    spread = (inside * weights[:, None]).T @ inside
    rank, shrinkage = len(spread), params.shrinkage
    even = max(float(np.trace(spread)) / rank, 1e-12)
    values, vectors = np.linalg.eigh((1 - shrinkage) * spread + shrinkage * even * np.eye(rank))
    whitened = vectors / np.sqrt(values)
    between = (means - centre) @ axes.T @ whitened
    _, _, turned = np.linalg.svd(between, full_matrices=False)
    told = min(classes - 1, params.dimensions - 2)
    discriminant = (axes.T @ whitened @ turned[:told].T).T
    principal = axes[: params.dimensions - 1 - told]
    parts = ((params.share, discriminant), (1 - params.share, principal))
    return centre, np.concatenate(
        [np.sqrt(share) * part / _size((features - centre) @ part.T) for share, part in parts]
    )


def _size(points: Floats) -> float:
    """Return the root of the mean squared length of points (n, d)."""
    return max(float(np.sqrt((points**2).sum(axis=1).mean())), 1e-12)


def fit_head(copies: Floats, names: Sequence[str], params: MetricParams, job: Job = QUIET) -> Head:
    """Learn the map from features of changed copies of each item.

    Parameters
    ----------
    copies
        (n, v, q) features of v copies of n items.
    names
        Class of each item.
    """
    labels = np.unique(np.asarray(names), return_inverse=True)[1]
    data = np.asarray(copies, np.float64)
    items = data.mean(axis=1)
    # Numbers of all scales count alike; those that never differ not at all.
    spread = items.std(axis=0)
    unit = np.where(spread > 1e-6 * spread.max(), 1 / spread.clip(1e-12), 0.0)
    mean, weight = closed_form(items * unit, labels, params)
    head = Head(*(torch.from_numpy(part).float() for part in (unit, mean, weight)))
    if params.epochs:
        known = torch.from_numpy(data).float()
        refine(head, lambda rows, views: known[rows, views], known, labels, params, job)
    return head.eval().requires_grad_(False)


def learned_from(
    features: Floats, names: Sequence[str], params: MetricParams, rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return points of features (n, q) after the closed form of those in `rows`."""
    chosen = [names[row] for row in rows]
    head = fit_head(features[rows][:, None], chosen, params.model_copy(update={"epochs": 0}))
    return points_of(head, features)


def refine(
    head: Head,
    features: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    labels: NDArray[np.integer],
    params: MetricParams,
    job: Job,
    late: nn.Module | None = None,
) -> None:
    """Train a head by triplets and softmax, with batches of as many items of each class.

    Parameters
    ----------
    features
        Computes those of some rows and copies: (n,), (n,) to (n, q).
    start
        (n, v, q) features before the training: what the softmax begins with.
    late
        Last stage of a backbone, if `features` computes with it and it is to be trained as well.
    """
    from pytorch_metric_learning.losses import NormalizedSoftmaxLoss, TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner

    kinds = torch.from_numpy(labels)
    classes = int(labels.max()) + 1
    generator = torch.Generator().manual_seed(params.seed)
    softmax = NormalizedSoftmaxLoss(classes, head.weight.shape[0] + 1, temperature=_TEMPERATURE)
    # It begins with the means of the classes instead of noise.
    points = head(start.mean(dim=1)).detach()
    means = torch.stack([points[kinds == c].mean(dim=0) for c in range(classes)])
    softmax.W.data = nn.functional.normalize(means, dim=1).T.contiguous()
    triplet = TripletMarginLoss(margin=params.margin)
    miner = TripletMarginMiner(margin=params.margin, type_of_triplets=params.mining)
    first = head.weight.detach().clone()
    groups = [
        {"params": head.parameters(), "lr": params.learning_rate * float(first.std())},
        {"params": softmax.parameters(), "lr": params.learning_rate},
    ]
    if late is not None:
        groups.append({"params": late.parameters(), "lr": _LATE_RATE * params.learning_rate})
    optimizer = torch.optim.Adam(groups)
    members = [torch.nonzero(kinds == c)[:, 0] for c in range(classes)]
    steps = max(1, len(labels) // (classes * _PER_CLASS))
    for epoch in range(params.epochs):
        total = 0.0
        for _ in range(steps):
            job.check("Training")
            picks = [m[torch.randint(len(m), (_PER_CLASS,), generator=generator)] for m in members]
            rows = torch.cat(picks)
            views = torch.randint(start.shape[1], (len(rows),), generator=generator)
            points = head(features(rows, views))
            mined = miner(points, kinds[rows])
            pull = ((head.weight - first) ** 2).sum() / (first**2).sum()
            loss = triplet(points, kinds[rows], mined) + softmax(points, kinds[rows])
            optimizer.zero_grad()
            (loss + _PULL * pull).backward()
            optimizer.step()
            total += float(loss.detach())
        job.report(epoch + 1, params.epochs, "Training", loss=total / steps)


def unit(vectors: Floats) -> NDArray[np.float32]:
    """Return vectors (n, d) brought to length 1."""
    found = np.asarray(vectors, np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-12))


@torch.inference_mode()
def points_of(head: Head, features: Floats) -> NDArray[np.float32]:
    """Return the points of features (n, q): (n, d) of length 1."""
    return np.asarray(head(torch.from_numpy(np.asarray(features, np.float32))).numpy())
