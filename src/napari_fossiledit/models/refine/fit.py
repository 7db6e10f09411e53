"""Fit a refiner to traced slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.models.inference.preprocessing import Rgb
from napari_fossiledit.models.refine.refiner import pixel_network, window_of
from napari_fossiledit.progress import Cancel, check, never

LEAST_IOU = 0.4
"""Least IoU of a mask with a traced one to learn from: below, it is another fossil's."""
MOST_SAMPLES = 300_000
"""Pixels to learn from over all instances: 65 MB of features."""
_OF_ONE = (50, 4000)
"""Fewest and most pixels of one instance."""
_LEAST_AREA = 50
"""Instances weigh alike whatever their size, from this area in pixels on."""
STEPS, BATCH, RATE, DECAY = 1500, 2048, 4e-3, 0.05
"""Steps, pixels in a step, peak learning rate, weight decay. 8 s on one core."""


@dataclass(frozen=True)
class Samples:
    """Pixels of instances that agree with a traced one.

    Attributes
    ----------
    features
        (n, COUNT) float32.
    truth, weight
        (n,): whether they are of the traced instance, and how much they count.
    group
        (n,) number of the fold that their instance is in.
    """

    features: Tensor
    truth: Tensor
    weight: Tensor
    group: NDArray[np.intp]

    def without(self, group: int) -> Samples:
        """Return the pixels of all other folds."""
        kept = torch.from_numpy(self.group != group)
        return Samples(
            self.features[kept], self.truth[kept], self.weight[kept], self.group[kept.numpy()]
        )


@dataclass(frozen=True)
class Example:
    """What was found of one class in a slice, and what was traced of it.

    Attributes
    ----------
    rgb
        The slice in its own pixels (y, x, 3).
    found
        As the model found them, with probabilities.
    truths
        Traced masks of the class, without unsure ones.
    counted
        (y, x) bool, False where nothing is known; None: everywhere known.
    matched
        For each of `found` the truth it agrees with, see `matches`.
    groups
        Number of the fold of each of `found`.
    """

    rgb: Rgb
    found: Sequence[Instance]
    truths: Sequence[Mask]
    counted: NDArray[np.bool_] | None
    matched: NDArray[np.intp]
    groups: NDArray[np.intp]

    def pairs(self) -> Iterator[tuple[Instance, Mask, int]]:
        """Yield each instance that agrees with a traced one, that one, and its fold."""
        for instance, number, group in zip(self.found, self.matched, self.groups, strict=True):
            if number >= 0:
                yield instance, self.truths[number], int(group)


def matches(found: Sequence[Instance], truths: Sequence[Mask]) -> NDArray[np.intp]:
    """Return for each instance the number of the truth it agrees with; -1: none to learn from."""
    if not found or not truths:
        return np.full(len(found), -1, dtype=np.intp)
    iou = iou_matrix([i.mask for i in found], list(truths))
    known = np.array([i.probability is not None for i in found])
    return np.where(known & (iou.max(axis=1) >= LEAST_IOU), iou.argmax(axis=1), -1)


def samples(
    examples: Iterable[Example], pairs: int, scale: float, *, seed: int = 0, cancel: Cancel = never
) -> Samples:
    """Take pixels at random from around each instance that agrees with a traced one.

    Parameters
    ----------
    pairs
        Number of such instances in all `examples`; fewer give more pixels each.
    scale
        Pixels of the refiner per pixel of the slices.
    """
    random = np.random.default_rng(seed)
    count = int(np.clip(MOST_SAMPLES // max(pairs, 1), *_OF_ONE))
    features, truth, weight, group = [], [], [], []
    for example in examples:
        for instance, traced, fold in example.pairs():
            check(cancel, "Fitting the refiner")
            if instance.probability is None:
                continue
            window = window_of(example.rgb, instance.probability, scale)
            y0, x0, y1, x1 = window.box
            # The pixel of the slice that the middle of each of the refiner's lies in.
            rows, columns = (
                ((np.arange(n) + 0.5) * (high - low) / n).astype(np.intp)
                for n, low, high in zip(window.unsure.shape, (y0, x0), (y1, x1), strict=True)
            )
            is_fossil = traced.crop((y0, x0, y1, x1))[rows][:, columns][window.unsure]
            known = np.arange(len(is_fossil))
            if example.counted is not None:
                counted = example.counted[y0:y1, x0:x1][rows][:, columns]
                known = known[counted[window.unsure]]
            if not len(known):
                continue
            chosen = known[random.integers(len(known), size=count)]
            features.append(window.features[chosen])
            truth.append(torch.from_numpy(is_fossil[chosen]).float())
            share = len(known) / max(int(is_fossil[known].sum()), _LEAST_AREA)
            weight.append(torch.full((count,), share))
            group.append(np.full(count, fold, dtype=np.intp))
    if not features:
        none = torch.zeros(0)
        return Samples(none, none, none, np.zeros(0, dtype=np.intp))
    return Samples(torch.cat(features), torch.cat(truth), torch.cat(weight), np.concatenate(group))


def fit_network(
    data: Samples, *, steps: int = STEPS, seed: int = 0, cancel: Cancel = never
) -> nn.Sequential:
    """Fit the network of one class.

    Parameters
    ----------
    seed
        Of the first weights and of the order of the pixels; torch's own state is left as it is.
    """
    spread, mean = torch.std_mean(data.features, dim=0)
    spread += 1e-3
    features, weight = (data.features - mean) / spread, data.weight / data.weight.mean()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = pixel_network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        check(cancel, "Fitting the refiner")
        chosen = torch.randint(len(features), (BATCH,), generator=order)
        logits = network(features[chosen])[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, data.truth[chosen], weight[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    # The first layer takes the features as they are.
    first = cast("nn.Linear", network[0])
    with torch.no_grad():
        first.weight.div_(spread)
        first.bias.sub_(first.weight @ mean)
    return network.requires_grad_(False).eval()
