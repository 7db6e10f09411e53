"""Train a model of the morphospace on pictures with names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.backbones import LITE, Backbone, early_maps
from napari_fossiledit.morphospace.crops import Picture
from napari_fossiledit.morphospace.embedding import Item
from napari_fossiledit.morphospace.metric import Head, fit_head, refine
from napari_fossiledit.morphospace.model import Model, Record, described
from napari_fossiledit.morphospace.splits import require_classes
from napari_fossiledit.params.morphospace import MetricParams
from napari_fossiledit.progress import QUIET, Job

_CACHE_BYTES = 2e9
"""Memory for maps that fine-tuning starts from; where more is needed it takes fewer copies."""


def train(
    backbone: Backbone,
    items: Sequence[Item],
    pictures: Callable[[], Iterable[Picture]],
    params: MetricParams,
    device: torch.device | str = "cpu",
    job: Job = QUIET,
) -> Model:
    """Learn an embedding from pictures with names.

    Parameters
    ----------
    items
        All with a name.
    pictures
        Reads the pictures of the items; called twice where the backbone is fine-tuned.

    Raises
    ------
    FossilError
        Where fewer than two classes are named, or the backbone cannot be fine-tuned.
    """
    classes = require_classes(items, "Training")
    if params.fine_tune and backbone.name != LITE:
        raise FossilError(
            f"The backbone {backbone.name} cannot be fine-tuned",
            expected="lite",
            advice="Train without --fine-tune: its features stay as they are.",
        )
    names = [str(item.name) for item in items]
    copies = range(params.copies)
    looked = described(
        backbone,
        pictures(),
        outline=params.outline,
        copies=copies,
        total=len(items),
        device=device,
        job=job,
    )
    head = fit_head(looked, names, params, job)
    notes: list[str] = []
    if params.fine_tune:
        notes += _fine_tune(backbone, head, looked, names, pictures, params, device, job)
    record = Record(
        name=params.name,
        backbone=backbone.name,
        edge=backbone.edge,
        outline=params.outline,
        fine_tuned=params.fine_tune,
        classes=tuple(sorted(classes)),
        items={item.key: item.content for item in items},
        pictures=tuple(item.picture for item in items if item.picture),
        settings=params.model_dump(mode="json"),
        notes=tuple(notes),
    )
    return Model(record, backbone, head)


def _fine_tune(
    backbone: Backbone,
    head: Head,
    looked: np.ndarray,
    names: Sequence[str],
    pictures: Callable[[], Iterable[Picture]],
    params: MetricParams,
    device: torch.device | str,
    job: Job,
) -> list[str]:
    """Train the last stage of the backbone with the head; everything before it is computed once."""
    picture = 2 * 112 * (backbone.edge // 16) ** 2
    copies = min(params.copies, max(1, int(_CACHE_BYTES / (picture * len(names)))))
    maps = early_maps(backbone, pictures(), range(copies), device)
    late, q = backbone.late.to(device), looked.shape[2]
    head.to(device).requires_grad_(True)
    known = torch.from_numpy(looked[:, :copies]).to(device)

    def features(rows: Tensor, views: Tensor) -> Tensor:
        found = late(maps[rows, views].float().to(device))
        # Numbers of the outline stand behind and do not change.
        return torch.cat([found, known[rows, views][:, found.shape[1] : q]], dim=1)

    late.train()
    labels = np.unique(np.asarray(names), return_inverse=True)[1]
    refine(head, features, known, labels, params, job, late)
    late.eval().requires_grad_(False)
    head.cpu().eval().requires_grad_(False)
    if copies < params.copies:
        return [f"Fine-tuned on {copies} copies instead of {params.copies}: more need more memory."]
    return []
