"""A model compiled by OpenVINO for prediction on a CPU; imported where it is asked for only.

Pyramid, proposal head and mask branch are compiled from the weights as they are, an edit's
included, and take the places of torch's. What chooses among boxes stays the same code.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.backbones import LEVELS
from napari_fossiledit.models.backends import HOW_TO_COMPILE
from napari_fossiledit.models.maskrcnn import MaskRcnnSegmenter
from napari_fossiledit.models.network import STRIDE, MaskRcnn

_NAMES = (*LEVELS, "pool")


def compiled(segmenter: MaskRcnnSegmenter) -> MaskRcnnSegmenter:
    """Compile a model, which takes seconds, for prediction only.

    The given one is not changed, and need not be kept. Results differ by rounding.

    Raises
    ------
    FossilError
        Where OpenVINO is not installed, or the model is not on the CPU.
    """
    if segmenter.device.type != "cpu":
        raise FossilError(
            "A compiled model computes on the CPU",
            expected="device cpu",
            found=f"device {segmenter.device}",
            advice="Choose the device cpu, or the engine eager.",
        )
    network = segmenter.network
    if not isinstance(network, MaskRcnn) or network.mask_outputs:
        raise FossilError(
            "The model cannot be compiled",
            expected="a model of this program without an edit of the masks alone",
            found=f"{type(network).__name__}, own maps for masks: {network.spec.mask_levels}",
            advice="Choose the engine eager.",
        )
    network = _compiled_network(network, _library())
    found = MaskRcnnSegmenter(network, segmenter.preprocessing)
    found.model_hash = segmenter.model_hash
    return found


def _library() -> Any:
    """Import OpenVINO, or tell how to get it.

    Its converter reports each use to its maker, without asking, where the package for that can be
    imported. Here it cannot.
    """
    sys.modules.setdefault("openvino_telemetry", cast("Any", None))
    try:
        import openvino
    except ImportError as error:
        raise FossilError(
            "The engine openvino is not installed",
            expected="the Python package openvino",
            found=str(error),
            advice=HOW_TO_COMPILE,
        ) from error
    return openvino


def _compiled_network(network: MaskRcnn, library: Any) -> MaskRcnn:
    """Put compiled parts and the rest of `network` together; no weight is copied."""
    with torch.device("meta"):
        made = MaskRcnn(network.spec)
    image = torch.zeros(1, 3, 2 * STRIDE, 2 * STRIDE)
    with torch.no_grad():
        maps = list(network.backbone(image).values())
    heads, old = made.roi_heads, network.roi_heads
    made.backbone = cast("Any", _Part(library, _Pyramid(network.backbone), [image], _named))
    made.rpn.head = _Part(library, _Proposals(network.rpn.head), maps, _halves)
    heads.box_head, heads.box_predictor = old.box_head, old.box_predictor
    masks = nn.Sequential(old.mask_head, old.mask_predictor)
    regions = torch.zeros(2, network.spec.channels, 14, 14)
    heads.mask_head, heads.mask_predictor = _Part(library, masks, [regions], _only), nn.Identity()
    return made


def _named(outputs: list[Tensor]) -> Any:
    return dict(zip(_NAMES, outputs, strict=True))


def _halves(outputs: list[Tensor]) -> Any:
    half = len(outputs) // 2
    return outputs[:half], outputs[half:]


def _only(outputs: list[Tensor]) -> Any:
    return outputs[0]


class _Pyramid(nn.Module):
    """A backbone whose maps come as a tuple: graphs know no dictionaries."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images).values())


class _Proposals(nn.Module):
    """A proposal head with plain arguments and outputs, for the same reason."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        objectness, offsets = self.head(list(maps))
        return (*objectness, *offsets)


class _Part(nn.Module):
    """A compiled part for inputs of every size; what it returns holds until the next call."""

    def __init__(
        self,
        library: Any,
        part: nn.Module,
        example: Sequence[Tensor],
        shaped: Callable[[list[Tensor]], Any],
    ) -> None:
        super().__init__()
        model = _converted(library, part.eval(), tuple(example))
        config = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.request = library.Core().compile_model(model, "CPU", config).create_infer_request()
        self.shaped = shaped

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        """Compute as the part did."""
        given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        if given[0].numel() == 0:
            return self._nothing(given[0])
        values = [value.contiguous().numpy() for value in given]
        found = self.request.infer(values, share_inputs=True, share_outputs=True)
        return self.shaped([torch.from_numpy(array) for array in found.to_tuple()])

    def _nothing(self, given: Tensor) -> Tensor:
        """Masks of no box: not every kernel takes an empty batch."""
        outputs = self.request.model_outputs[0].get_partial_shape()
        sides = [s.get_length() if s.is_static else 0 for s in list(outputs)[1:]]
        return given.new_zeros(0, *sides)


def _converted(library: Any, part: nn.Module, example: tuple[Tensor, ...]) -> Any:
    shapes = [[-1, e.shape[1], -1, -1] for e in example]
    with torch.no_grad(), warnings.catch_warnings():
        # OpenVINO reads torch's traces; torch announces another way that it is slower to read.
        warnings.simplefilter("ignore")
        traced = cast("Any", torch.jit.trace)(part, example, check_trace=False)
        return library.convert_model(traced, example_input=example, input=shapes)
