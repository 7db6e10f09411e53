"""Faster 3 x 3 convolutions for prediction on a CPU.

After Lavin and Gray 2016 (Fast algorithms for convolutional neural networks): tiles of a map are
transformed so that a convolution takes a fraction of the multiplications. torch comes with such
kernels (NNPACK, tiles of 8 x 8) but does not choose them for single images. Rounding errors are
several times those of the direct sum, so that detections of nearly equal score may change places.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn

_LEAST_EDGE, _LEAST_CHANNELS = 12, 32
"""The kernels are not faster on smaller maps."""

_ONE = (1, 1)


def fast(segmenter: Segmenter) -> Segmenter:
    """Return the same model for faster prediction; the weights are shared, nothing is trained.

    Pyramid outputs, proposal head and mask head are computed by the fast kernels. The backbone is
    not: its maps are small, and their layout suits the usual kernels.

    Raises
    ------
    FossilError
        Where the model is not on a CPU or not computed by this program, or torch lacks the kernels.
    """
    network = getattr(segmenter, "network", segmenter)
    if segmenter.device.type != "cpu" or not isinstance(network, MaskRcnn) or not _available():
        raise FossilError(
            "The engine fast cannot be used here",
            expected="a model of this program on the CPU, and a torch with NNPACK",
            found=f"{type(network).__name__} on {segmenter.device}, NNPACK: {_available()}",
            advice="Choose the engine exact.",
        )
    made = network.sharing()
    heads = made.roi_heads
    for part in (made.backbone.fpn.layer_blocks, made.mask_outputs, made.rpn, heads.mask_head):
        for module in part.modules():
            if _fits(module):
                # The class alone changes: names, weights and with them the hash stay the same.
                module.__class__ = _Winograd
    faster = MaskRcnnSegmenter(made, segmenter.preprocessing, segmenter.device)
    # The weights are the same: no need to hash them again.
    faster.model_hash = segmenter.model_hash
    return faster


def _available() -> bool:
    # The only name torch gives to these kernels; it has been the same since torch 1.0.
    return torch.backends.nnpack.is_available() and hasattr(torch, "_nnpack_spatial_convolution")


def _fits(module: nn.Module) -> bool:
    """Return whether the kernels can compute a layer, and are faster."""
    return (
        type(module) is nn.Conv2d
        and (module.kernel_size, module.stride, module.padding) == ((3, 3), _ONE, _ONE)
        and (module.dilation, module.groups) == (_ONE, 1)
        and min(module.in_channels, module.out_channels) >= _LEAST_CHANNELS
    )


class _Winograd(nn.Conv2d):
    """A 3 x 3 convolution of another class; made by changing that of an existing one."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute a map (N, C, Y, X) of the same size."""
        if min(input.shape[2:]) < _LEAST_EDGE or not len(input):
            return super().forward(input)
        weight, bias = self.weight.contiguous(), self.bias
        output: Tensor = torch._nnpack_spatial_convolution(input.contiguous(), weight, bias, _ONE)
        return output
