"""A tiny random segmenter, and synthetic problems of one level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from napari_fossiledit.editing.examples import Example
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def segmenter():
    return make_segmenter(8)


@pytest.fixture(scope="session")
def other_segmenter():
    return make_segmenter(16)


def make_segmenter(channels: int) -> MaskRcnnSegmenter:
    torch.manual_seed(0)
    changes = {"channels": channels, "box_width": 8, "mask_channels": 8}
    spec = default_spec("lite", ("a",)).model_copy(update=changes)
    return MaskRcnnSegmenter(MaskRcnn(spec), Preprocessing(scale=1.0))


@pytest.fixture(scope="session")
def slices():
    """Originals of 80 x 112 with perturbed versions: the right half is filled."""
    rng = np.random.default_rng(0)
    originals = [rng.integers(0, 255, (80, 112, 3), dtype=np.uint8) for _ in range(3)]
    perturbed = [image.copy() for image in originals]
    for image in perturbed:
        image[:, 56:] = (90, 52, 40)
    return list(zip(originals, perturbed, strict=True))


@dataclass
class Problem:
    """One level: examples, and the convolution they were made of."""

    examples: list[Example]
    weight: Tensor
    bias: Tensor

    @property
    def unfolded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A, R and w of all positions in double precision."""
        parts = [_unfolded(e) for e in self.examples]
        a, r, w = (np.concatenate(p) for p in zip(*parts, strict=True))
        return a, r, w


def _unfolded(example: Example) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unfold with plain loops over the taps."""
    key = example.key[0].double().numpy()
    channels, height, width = key.shape
    padded = np.pad(key, ((0, 0), (1, 1), (1, 1)))
    columns = [
        padded[c, i : i + height, j : j + width].ravel()
        for c in range(channels)
        for i in range(3)
        for j in range(3)
    ]
    residual = (example.target - example.value)[0].double().numpy()
    weight = torch.ones(1, 1, height, width) if example.weight is None else example.weight
    return (
        np.stack(columns, 1),
        residual.reshape(len(residual), -1).T,
        weight.double().numpy().ravel(),
    )


def make_problem(
    sizes: tuple[tuple[int, int], ...] = ((9, 13),),
    inputs: int = 3,
    outputs: int = 2,
    *,
    weighted: bool = False,
    noise: float = 0.3,
) -> Problem:
    """Targets that no edit reaches: another convolution's, with heavy-tailed noise."""
    random = torch.Generator().manual_seed(1)
    weight = torch.randn(outputs, inputs, 3, 3, generator=random) * 0.3
    bias = torch.randn(outputs, generator=random)
    wanted = weight + torch.randn(weight.shape, generator=random) * 0.2
    examples = []
    for height, width in sizes:
        key = torch.randn(1, inputs, height, width, generator=random) + 0.5
        value = functional.conv2d(key, weight, bias, padding=1)
        target = functional.conv2d(key, wanted, bias, padding=1)
        target = target + noise * torch.randn(target.shape, generator=random) ** 3
        share = torch.rand(1, 1, height, width, generator=random) * 2 if weighted else None
        examples.append(Example(key, value, target, share))
    return Problem(examples, weight, bias)


@pytest.fixture
def problem():
    return make_problem


def edge_matrix(size: int) -> Tensor:
    """A well-conditioned C that is not the identity."""
    random = torch.Generator().manual_seed(2)
    root = torch.randn(size, 2 * size, dtype=torch.float64, generator=random)
    return root @ root.T


@pytest.fixture
def keep():
    return edge_matrix
