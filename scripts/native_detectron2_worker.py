"""Native detectron2 in a process of its own: a JSON command a line in, an answer a line out.

    {"do": "create", "architecture": "r50", "classes": 2, "images": ["a.npy"], ...}
    {"do": "open", "folder": "m", "score": 0.0}
    {"do": "stages", "image": "a.npy", "out": "a.npz", "maps": true}
    {"do": "predict", "image": "a.npy"}
    {"do": "load", "folder": "m"}
    {"do": "capture", "image": "a.npy", "out": "a.npz"}
    {"do": "ridge", "image": "a.npy", "wanted": "b.npy", "levels": [4, 5], "out": "e.npz"}

Started by tests and benchmarks with detectron2 on its path (see ``native_detectron2.py``), so that
nothing of detectron2 enters the process that it is compared with. Images are (y, x, 3) RGB.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

PIL.Image.LINEAR = PIL.Image.BILINEAR  # removed from Pillow 10, read by detectron2 0.6

import detectron2  # noqa: E402
import torch  # noqa: E402
from detectron2.checkpoint import DetectionCheckpointer  # noqa: E402
from detectron2.config import get_cfg  # noqa: E402
from detectron2.engine import DefaultPredictor  # noqa: E402
from detectron2.layers import FrozenBatchNorm2d  # noqa: E402
from native_detectron2 import most_memory  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

CONFIGS = Path(detectron2.__file__).parent / "model_zoo" / "configs"
ZOO = {
    "r50": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
    "r101": "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml",
    "x101": "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml",
}
# Spread of the outputs of each head, wide enough that no two scores are nearly the same. Masks are
# whole rather than speckled: each pixel of an edge is one that rounding may turn.
SPREAD = {
    **{f"backbone.fpn_{kind}{n}": 1.0 for n in (5, 4, 3, 2) for kind in ("lateral", "output")},
    "proposal_generator.rpn_head.objectness_logits": 2.0,
    "proposal_generator.rpn_head.anchor_deltas": 0.1,
    "roi_heads.box_predictor.cls_score": 1.5,
    "roi_heads.box_predictor.bbox_pred": 0.2,
    "roi_heads.mask_head.predictor": 4.0,
}
CENTRE = {"roi_heads.mask_head.predictor": 4.0}

Answer = dict[str, Any]
Pairs = dict[int, tuple[Tensor, Tensor]]


class Worker:
    """Holds the model that was opened last."""

    predictor: DefaultPredictor

    def create(
        self, architecture: str, classes: int, images: list[str], folder: str, **options: Any
    ) -> Answer:
        """Make a random model that behaves like a trained one, and save it as detectron2 does."""
        cfg = get_cfg()
        cfg.merge_from_file(str(CONFIGS / ZOO[architecture]))
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
        cfg.INPUT.MIN_SIZE_TEST = options.get("short_edge", 800)
        cfg.INPUT.MAX_SIZE_TEST = options.get("long_edge", 1333)
        torch.manual_seed(options.get("seed", 0))
        predictor = DefaultPredictor(cfg)
        calibrate(predictor, [np.load(image) for image in images])
        Path(folder).mkdir(parents=True, exist_ok=True)
        DetectionCheckpointer(predictor.model, folder).save("model_final")
        Path(folder, "config.yaml").write_text(cfg.dump())
        return {}

    def open(self, folder: str, score: float = 0.0, strict: bool = True) -> Answer:
        """Load a model as a user does, and tell what did not fit."""
        cfg = get_cfg()
        cfg.merge_from_file(str(Path(folder, "config.yaml")))
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = score
        self.predictor = DefaultPredictor(cfg)
        path = str(Path(folder, "model_final.pth"))
        model = self.predictor.model
        # The checkpointer itself is never strict: it only logs what does not fit.
        weights = torch.load(path, map_location="cpu", weights_only=True)["model"]
        missing, unknown = model.load_state_dict(weights, strict=strict)
        DetectionCheckpointer(model).load(path)
        return {"missing": list(missing), "unknown": list(unknown)}

    def load(self, folder: str) -> Answer:
        """Load a model once, as `DefaultPredictor` does for a user: for measuring memory."""
        cfg = get_cfg()
        cfg.merge_from_file(str(Path(folder, "config.yaml")))
        cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = "cpu", 0.0
        cfg.MODEL.WEIGHTS = str(Path(folder, "model_final.pth"))
        self.predictor = DefaultPredictor(cfg)
        return {"rss": most_memory()}

    def capture(self, image: str, out: str) -> Answer:
        """Write what goes into and comes out of the pyramid's output convolutions."""
        backbone = self.predictor.model.backbone
        layers = {n: getattr(backbone, f"fpn_output{n}") for n in (2, 3, 4, 5)}
        taken = self._record_activations(layers, image)
        keys = {f"key{n}": pair[0].numpy() for n, pair in taken.items()}
        np.savez(out, **keys, **{f"value{n}": pair[1].numpy() for n, pair in taken.items()})
        return {}

    def predict(self, image: str) -> Answer:
        """Predict as `DefaultPredictor` does; seconds of wall clock and of all processors."""
        pixels = np.load(image)[..., ::-1]
        start, used = time.perf_counter(), time.process_time()
        found = self.predictor(pixels)["instances"]
        seconds, cpu = time.perf_counter() - start, time.process_time() - used
        return {"seconds": seconds, "cpu": cpu, "count": len(found), "rss": most_memory()}

    def stages(self, image: str, out: str, maps: bool = False) -> Answer:
        """Write what each stage gave for one image."""
        model, taken = self.predictor.model, {}
        hooks = [
            model.backbone.register_forward_hook(lambda m, i, o: taken.update(maps=o)),
            model.proposal_generator.register_forward_hook(
                lambda m, i, o: taken.update(proposals=o[0][0].proposal_boxes.tensor.clone())
            ),
            model.roi_heads.register_forward_hook(
                lambda m, i, o: taken.update(raw=o[0][0].pred_boxes.tensor.clone())
            ),
        ]
        final = self.predictor(np.load(image)[..., ::-1])["instances"]
        for hook in hooks:
            hook.remove()
        values = {f"map_{k}": v.numpy() for k, v in taken["maps"].items()} if maps else {}
        np.savez(
            out,
            proposals=taken["proposals"].numpy(),
            raw=taken["raw"].numpy(),
            boxes=final.pred_boxes.tensor.numpy(),
            scores=final.scores.numpy(),
            classes=final.pred_classes.numpy(),
            masks=np.packbits(final.pred_masks.numpy(), axis=2),
            **values,
        )
        return {"count": len(final)}

    def ridge(
        self, image: str, wanted: str, levels: list[int], out: str, pull: float = 1e-3
    ) -> Answer:
        """Fit output convolutions to what they give for another image; write the changes."""
        layers = {n: getattr(self.predictor.model.backbone, f"fpn_output{n}") for n in levels}
        keys = {n: pair[0] for n, pair in self._record_activations(layers, image).items()}
        values = {n: pair[1] for n, pair in self._record_activations(layers, wanted).items()}
        deltas = {str(n): change(layer, keys[n], values[n], pull) for n, layer in layers.items()}
        np.savez(out, **deltas)
        return {}

    def _record_activations(self, layers: dict[int, nn.Module], image: str) -> Pairs:
        taken: Pairs = {}

        def keep(level: int) -> Callable[..., None]:
            return lambda m, inputs, output: taken.update({level: (inputs[0], output)})

        hooks = [layer.register_forward_hook(keep(n)) for n, layer in layers.items()]
        with torch.no_grad():
            self.predictor(np.load(image)[..., ::-1])
        for hook in hooks:
            hook.remove()
        return taken


def change(layer: nn.Module, key: Tensor, value: Tensor, pull: float) -> np.ndarray:
    """Ridge regression of what the layer lacks on its unfolded input, in double precision."""
    rows = F.unfold(key.detach().double(), 3, padding=1)[0].T.numpy()
    lacking = value.detach() - F.conv2d(key.detach(), layer.weight.detach(), layer.bias, padding=1)
    target = lacking.detach().double().flatten(2)[0].T.numpy()
    gram = rows.T @ rows
    gram[np.diag_indices_from(gram)] += pull * np.trace(gram) / len(gram)
    return np.linalg.solve(gram, rows.T @ target).T.reshape(layer.weight.shape)


def calibrate(predictor: DefaultPredictor, images: list[np.ndarray]) -> None:
    """Give normalisations the statistics of images, and heads well separated outputs."""
    model = predictor.model
    hooks = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # Behind a ReLU all is positive: such sums would differ little from place to place.
            module.weight.data -= module.weight.data.flatten(1).mean(1)[
                (...,) + (None,) * (module.weight.ndim - 1)
            ]
        if isinstance(module, FrozenBatchNorm2d):
            # Branches that add little make a network as insensitive to rounding as training does.
            gain = 0.2 if path.endswith("conv3.norm") else 1.0
            hooks.append(module.register_forward_pre_hook(partial(statistics, gain=gain)))
    for name, spread in SPREAD.items():
        hooks.append(
            model.get_submodule(name).register_forward_hook(widened(spread, CENTRE.get(name, 0.0)))
        )
    with torch.no_grad():
        model([prepared(predictor, image) for image in images])
    for hook in hooks:
        hook.remove()


def prepared(predictor: DefaultPredictor, image: np.ndarray) -> dict[str, Any]:
    """Resize an image as the predictor does."""
    pixels = image[..., ::-1]
    resized = predictor.aug.get_transform(pixels).apply_image(pixels)
    values = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
    return {"image": values, "height": image.shape[0], "width": image.shape[1]}


def statistics(norm: FrozenBatchNorm2d, inputs: tuple[Tensor], gain: float) -> None:
    """Normalise what comes in, with a random gain and shift as a trained network has them."""
    values = inputs[0]
    norm.running_mean.copy_(values.mean((0, 2, 3)))
    norm.running_var.copy_(values.var((0, 2, 3)).clamp(min=1e-6))
    norm.weight.copy_((torch.rand_like(norm.weight) + 0.5) * gain)
    norm.bias.copy_(torch.randn_like(norm.bias) * 0.2 * gain)


def widened(spread: float, centre: float) -> Callable[..., Tensor | None]:
    """Return a hook that moves a layer's output to a centre and scales it to a spread, once."""
    seen: set[int] = set()

    def adjust(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
        if id(layer) in seen or not len(output):
            return None
        seen.add(id(layer))
        axes = [d for d in range(output.ndim) if d != 1]
        mean, std = output.mean(axes), output.std(axes).clamp(min=1e-6)
        gain = spread / std
        with torch.no_grad():
            layer.weight.mul_(gain.view(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.copy_((layer.bias - mean) * gain + centre)
        return layer(*inputs)

    return adjust


def main() -> None:
    """Answer commands until the input ends."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    worker, answers = Worker(), sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(worker, command.pop("do"))(**command)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
