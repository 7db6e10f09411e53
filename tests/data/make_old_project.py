"""Write ``old_project.zip``: a small project as the program wrote it before the rework of rooms.

Kept to say how the archive came about; it runs with that version only (commit 1ce03db):

    git worktree add ../before 1ce03db
    PYTHONPATH=../before/src python tests/data/make_old_project.py tests/data/old_project.zip

The photographs lie inside as ``reef/images``, the project as ``old.fossil``. Everything was made
by the workflows themselves. Only the weights of the model are invented: a short cycle of numbers,
of which 15 MB compress to almost nothing.
"""

import os
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from napari_fossiledit.models.maskrcnn import MaskRcnnSegmenter
from napari_fossiledit.models.preprocessing import Preprocessing
from napari_fossiledit.models.registry import save_model
from napari_fossiledit.models.spec import default_spec
from napari_fossiledit.workflows.annotations import import_annotations
from napari_fossiledit.workflows.corrections import fill_labels, trace_slice
from PIL import Image

from napari_fossiledit.masks import Mask
from napari_fossiledit.models.network import MaskRcnn
from napari_fossiledit.params.annotations import FillParams, ImportParams, TraceParams
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows import edit, edits, link, new, predict, sample

MODEL = "lite-own"
CYCLE = 61  # a prime, so that rows of a weight matrix differ; short, so that deflate finds it


def with_cycles(network: torch.nn.Module) -> None:
    """Give every weight matrix a short cycle of numbers of the usual spread (He et al. 2015)."""
    numbers = torch.randn(CYCLE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, weight in network.state_dict().items():
            if weight.ndim >= 2:
                # Small in the last layer, so that scores are not all 0 or 1.
                gain = 0.4 if "predictor" in name else 2.0
                cycle = numbers * (gain / weight[0].numel()) ** 0.5
                copies = -(-weight.numel() // CYCLE)
                weight.copy_(cycle.repeat(copies)[: weight.numel()].reshape(weight.shape))


def normalised(segmenter: MaskRcnnSegmenter, image: np.ndarray) -> None:
    """Set the statistics of every batch normalisation to those of one image, by powers of two.

    Without it activations grow from layer to layer, and with them the last digits in which
    processors differ. Powers of two compress.
    """

    def measure(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        channels = inputs[0].detach().transpose(0, 1).flatten(1)
        mean, variance = channels.mean(1), channels.var(1) + 1e-3
        layer.running_mean.copy_(mean.sign() * mean.abs().clamp(1e-3).log2().round().exp2())
        layer.running_var.copy_(variance.log2().round().exp2())

    layers = [m for m in segmenter.network.modules() if hasattr(m, "running_var")]
    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    segmenter.predict(image)
    for hook in hooks:
        hook.remove()


def make(home: Path) -> None:
    torch.set_num_threads(1)
    sample.run(
        home / "reef",
        ReefParams(slices=3, size=128, seed=3, cups_per_cm3=6, camera_noise=0.5),
    )
    path = home / "old.fossil"
    new.run(path, home / "reef" / "images", NewParams(pixel_size=72.7, slice_spacing=500))
    import_annotations(path, ImportParams(file=home / "reef" / "annotations.json"))

    small = {"channels": 16, "box_width": 32, "mask_channels": 16}
    spec = default_spec("lite", ("archaeocyathid",)).model_copy(update=small)
    network = MaskRcnn(spec)
    with_cycles(network)
    segmenter = MaskRcnnSegmenter(network, Preprocessing(scale=2.0))
    normalised(segmenter, np.asarray(Image.open(home / "reef" / "images" / "slice_0001.png")))
    save_model(segmenter, path / "models" / MODEL)

    common = {"model": MODEL, "slices": "0", "tuning": "1", "pinned": "2", "strengths": "1"}
    edit.run(path, EditParams(name="outlines", levels="2-3", **common))
    edit.run(path, EditParams(name="whole", scope="all", solver="direct", levels="3", **common))
    edits.apply(path, "whole")
    for model in (MODEL, "outlines", "whole"):
        predict.run(path, PredictParams(model=model, max_detections=12))

    # A square is painted by hand on slice 2, which then is traced anew.
    fill_labels(path, FillParams(source="annotations"))
    with Project.open(path) as project:
        labels = np.array(project.labels.read(2))
        labels[10:30, 12:40] = 4001
        project.labels.write(2, labels, project.labels.begin("a square"))
    trace_slice(path, TraceParams(slices="2"))
    link.run(path, LinkParams(source="annotations", relink=True))
    with Project.open(path) as project:
        project.ledger.set_traced(1, Mask.from_crop(np.ones((60, 80), np.bool_), (0, 0), (96, 128)))


def pack(home: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in sorted(home.rglob("*")):
            kept = path.parent.name == "images" or "old.fossil" in path.parts
            if path.is_file() and kept and "edit-whole" not in path.parts:
                file.write(path, path.relative_to(home))


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make(Path(folder))
        pack(Path(folder), target)
