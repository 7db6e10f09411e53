"""Our Mask R-CNNs computed by an installed detectron2.

Images come in and instances go out as with our own networks: the preprocessing, the tiles and the
pasting of masks are `MaskRcnnSegmenter`'s, and all between, from the first convolution to the
28 x 28 masks, is detectron2's. Its package is imported when a model is made, and not before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, cast

import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.config import Config
from napari_fossiledit.models.detectron2.file import OURS, Checkpoint
from napari_fossiledit.models.detectron2.layers import theirs
from napari_fossiledit.models.detectron2.read import Imported, import_checkpoint
from napari_fossiledit.models.detectron2.restricted_pickle import in_short
from napari_fossiledit.models.detectron2.write import to_detectron2
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.heads import Limits, Target
from napari_fossiledit.models.network.mask_rcnn import Maps, Network
from napari_fossiledit.models.network.prior import Prior
from napari_fossiledit.models.network.spec import LEFT_OUT

_WHERE = "The model in detectron2"
_INEXACT = (
    "The model was trained with anchors that are rounded to whole pixels; detectron2's are not, so"
    " that most boxes and scores differ a little, and some detections are others."
)


def native_segmenter(twin: Segmenter) -> MaskRcnnSegmenter:
    """Return the same model computed by detectron2, on the same device and with the same hash.

    Raises
    ------
    FossilError
        Where detectron2 has no such network, or cannot be imported.
    """
    content, config = to_detectron2(twin)
    network = NativeNetwork(build_native(config), content[OURS], twin.layers())
    network.model.load_state_dict(content["model"])
    return MaskRcnnSegmenter(network, twin.preprocessing, twin.device)


class NativeNetwork(Network):
    """detectron2's ``GeneralizedRCNN`` in the place of one of our networks.

    Parameters
    ----------
    model
        detectron2's network.
    ours
        What `to_detectron2` put beside the weights: our record, and rows detectron2 does not have.
    outputs
        Our names of the pyramid's output convolutions, finest first.
    """

    def __init__(self, model: nn.Module, ours: Mapping[str, Any], outputs: Iterable[str]) -> None:
        super().__init__()
        self.model, self._ours = model, dict(ours)
        self.backbone = model.get_submodule("backbone")
        self._outputs = {n: theirs(f"{n}.weight").rpartition(".")[0] for n in outputs}
        self.spec = self.imported().spec
        self.notes = () if self.spec.exact_anchors else (_INEXACT,)
        left_out = [n for n, name in enumerate(self.spec.classes) if name == LEFT_OUT]
        if left_out:
            predictor = model.get_submodule("roi_heads.box_predictor")
            predictor.register_forward_hook(partial(_leave_out, left_out))

    @property
    def outputs(self) -> dict[str, nn.Conv2d]:
        """The four 3 x 3 output convolutions of the pyramid by our names, finest first."""
        layers = {name: self.model.get_submodule(path) for name, path in self._outputs.items()}
        return cast("dict[str, nn.Conv2d]", layers)

    def imported(self) -> Imported:
        """Read the weights as from a checkpoint of detectron2."""
        state = {name: value.detach().cpu() for name, value in self.model.state_dict().items()}
        return import_checkpoint(Checkpoint(state, self._ours, _WHERE))

    def state_dict(self, *_: Any, **__: Any) -> Any:
        """Return weights by the names of our own network: hashes and files stay the same."""
        return dict(self.imported().weights)

    def find(
        self,
        image: Tensor,
        maps: Maps,
        size: tuple[int, int],
        limits: Limits,
        prior: Prior | None = None,
    ) -> Target:
        """See `Network.find`; after ``GeneralizedRCNN.inference``, which normalises as well.

        Raises
        ------
        FossilError
            Where a prior is given: detectron2 ranks its proposals by itself.
        """
        if prior is not None:
            raise FossilError(
                "The backend detectron2 cannot take adjacent slices into account",
                expected="a neighbour weight of 0",
                found=f"{prior.weight:g}",
                advice="Choose the backend twin.",
            )
        from detectron2.structures import ImageList

        model = cast("Any", self.model)
        predictor, images = model.roi_heads.box_predictor, ImageList(image, [size])
        predictor.test_score_thresh, predictor.test_topk_per_image = limits.floor, limits.count
        proposals, _ = model.proposal_generator(images, maps.finding, None)
        # Its public method draws the masks as well, and `draw` would have to do so again.
        (found,) = model.roi_heads._forward_box(maps.finding, proposals)
        boxes, labels = found.pred_boxes.tensor, found.pred_classes + 1
        return {"boxes": boxes, "scores": found.scores, "labels": labels}

    def draw(self, maps: Maps, boxes: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
        """See `Network.draw`."""
        from detectron2.structures import Boxes, Instances

        given = Instances(size, pred_boxes=Boxes(boxes), pred_classes=labels - 1)
        (drawn,) = cast("Any", self.model).roi_heads.forward_with_given_boxes(maps.drawing, [given])
        return cast("Tensor", drawn.pred_masks[:, 0])


def _leave_out(
    left_out: list[int], _: nn.Module, __: Any, output: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Add the probability of classes that are left out to the background, the last score."""
    scores, deltas = output
    gone = torch.tensor(left_out, device=scores.device)
    background = torch.tensor([scores.shape[1] - 1], device=scores.device)
    kept = scores.index_fill(1, gone, -math.inf)
    given = scores[:, torch.cat([gone, background])].logsumexp(dim=1, keepdim=True)
    return kept.index_copy(1, background, given), deltas


def build_native(config: Config) -> nn.Module:
    """Build detectron2's network of a flat configuration on the CPU, with random weights.

    Raises
    ------
    FossilError
        Where detectron2 cannot be imported.
    """
    with importing():
        from detectron2.modeling import build_model
    return cast("nn.Module", build_model(native_config(config)))


def native_config(config: Config) -> Any:
    """Return a flat configuration as detectron2's own."""
    with importing():
        from detectron2.config import get_cfg
    made = get_cfg()
    made.merge_from_list(list(chain.from_iterable(config.items())))
    made.MODEL.DEVICE, made.MODEL.WEIGHTS = "cpu", ""
    return made


@contextmanager
def importing() -> Iterator[None]:
    """Raise `FossilError` where an import of detectron2 fails; only imports belong inside."""
    # Its code runs when it is imported, and ends with any kind of error where it is older than
    # numpy, torch or Pillow: names that those have removed, not only libraries that are missing.
    # Removed from Pillow 10, and read by detectron2 0.6 when it is imported.
    if not hasattr(Pillow, "LINEAR"):
        vars(Pillow)["LINEAR"] = Pillow.Resampling.BILINEAR
    try:
        yield
    except Exception as error:
        raise FossilError(
            "The installed detectron2 cannot be imported",
            expected="a detectron2 that fits the installed torch, numpy and Pillow",
            found=f"{type(error).__name__}: {in_short(error)}",
            advice="Build it again for this environment, or choose the backend twin.",
        ) from error
