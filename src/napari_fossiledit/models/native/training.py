"""Train with detectron2's own trainer: its losses, its sampling, its optimiser.

Slices, crops and the judged part are those of our own training, so that the two can be compared.
detectron2 has no ignored areas: there the crop is filled with the mean colour, in which nothing is
to be found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.models.files.places import STATE
from napari_fossiledit.models.files.registry import save_model
from napari_fossiledit.models.inference.devices import pick_device
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.native.backends import require_backend
from napari_fossiledit.models.native.segmenter import (
    NativeNetwork,
    importing,
    native_config,
    native_segmenter,
)
from napari_fossiledit.models.network.heads import Target
from napari_fossiledit.models.training.augment import Cut, Variation, random_cut, target_of
from napari_fossiledit.models.training.initial import initial_network
from napari_fossiledit.models.training.loop import Budget, one_cycle
from napari_fossiledit.models.training.sampling import PreparedSlices, TrainingSet
from napari_fossiledit.models.training.train import (
    CURVE,
    Parts,
    TrainResult,
    about,
    check_samples,
    facts,
    fitting,
    settings_of,
    shortness,
    values_notes,
)
from napari_fossiledit.models.training.validation import judge
from napari_fossiledit.params.segment import Backend, TrainParams
from napari_fossiledit.progress import QUIET, Job, check

Mapped = dict[str, Any]


class _Stopped(BaseException):
    """Ends detectron2's loop between two steps; no `Exception`, which it would log as a failure."""


def train_native(
    samples: TrainingSet,
    params: TrainParams,
    *,
    folder: Path,
    job: Job = QUIET,
) -> TrainResult:
    """Train a model with detectron2 and save it in `folder` as any other model.

    The last weights are kept, and judged once. A training that was stopped cannot be resumed.

    Parameters
    ----------
    samples
        Traced slices; ``params.slices`` is not read here.
    cancel
        Stops between two steps; the model so far is kept and saved.

    Raises
    ------
    FossilError
        Where detectron2 is not installed or does not have the network, nothing was traced, the
        start file does not fit, or the loss diverged.
    CancelledError
        Where it was cancelled before the first step.
    """
    require_backend(Backend.DETECTRON2, params.architecture)
    check_samples(samples, params)
    if (folder / STATE).is_file():
        raise FossilError(
            f"{folder} holds a training that the backend twin began",
            expected="a new name",
            found=STATE,
            advice="Go on with --backend twin, or choose another name.",
        )
    job.check("The training")
    run = _Run(samples, params, folder, job)
    return run.finish(run.go())


class _Run:
    """One training from its first step to the saved model."""

    def __init__(
        self,
        samples: TrainingSet,
        params: TrainParams,
        folder: Path,
        job: Job,
    ) -> None:
        self.params, self.folder = params, folder
        self.job = job
        network, start, self.notes = initial_network(params)
        # What detectron2 trains keeps to detectron2's conventions wherever it runs.
        network.spec = network.spec.model_copy(update={"exact_anchors": True})
        self.settings = settings_of(samples, params, start)
        self.notes += values_notes(self.settings)
        slices = PreparedSlices(samples, self.settings, params.classes)
        self.parts, self.count = Parts(samples, slices, params), len(samples.slices)
        self.about = {**about(samples, params, self.settings), "backend": str(params.backend)}
        self.device = pick_device(params.device)
        native = native_segmenter(MaskRcnnSegmenter(network, self.settings, self.device))
        self.network = cast("NativeNetwork", native.network)
        self.random = np.random.default_rng(params.seed)
        self.budget = Budget(params.max_steps, params.max_minutes * 60)
        with explained(folder, "Writing"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CURVE).write_text("")

    def go(self) -> str:
        """Step until the budget is used up or the user stops; return which."""
        try:
            trainer(self.network.model, self, self.params).train(0, self.params.max_steps)
        except _Stopped as stopped:
            return str(stopped)
        except FloatingPointError as error:
            raise FossilError(
                f"The training diverged at step {self.budget.step}",
                expected="finite losses",
                found=str(error).splitlines()[0],
                advice="Train again with a lower learning rate.",
            ) from error
        return "steps"

    def before_step(self) -> None:
        """Stop where the user asks to or the time is used up."""
        if self.job.cancelled():
            raise _Stopped("cancelled")
        if self.budget.share >= 1:
            raise _Stopped("time")

    def after_step(self, latest: Mapping[str, float]) -> None:
        """Report and write down the figures of a step."""
        self.budget.step += 1
        losses = {name: value for name, value in latest.items() if name.startswith("loss")}
        figures = {"loss": latest["total_loss"], **losses, "rate": latest["lr"]}
        line = {"step": self.budget.step, "seconds": round(self.budget.seconds, 2), **figures}
        path = self.folder / CURVE
        with explained(path, "Writing"), path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        self.job.on_progress(self.budget.progress("Training with detectron2, step", figures))

    def rate(self, _: int) -> float:
        """Return the share of the learning rate, as in our own training."""
        return one_cycle(self.budget.share)

    def example(self, item: Mapping[str, int]) -> Mapped:
        """Cut a random crop from the slice of a dataset's item, as detectron2 takes it."""
        source = self.parts.learned(item["image_id"])
        cut = random_cut(source, fitting(self.params.crop), Variation(), self.random)
        return mapped(cut, target_of(cut, source), self.settings)

    def finish(self, stopped: str) -> TrainResult:
        """Read the weights back as a checkpoint of detectron2, judge and save the model."""
        check(lambda: self.budget.step == 0, "The training")
        segmenter = self.network.imported().segmenter(self.device.type)
        result = TrainResult(
            segmenter,
            self.budget.step,
            self.budget.seconds / 60,
            judge(segmenter, self.parts.judged) if self.parts.judged else None,
            stopped,
            self.folder / CURVE,
            self.parts.held_back,
            (*self.notes, *self.parts.notes, *shortness(self.budget, stopped)),
        )
        save_model(segmenter, self.folder, training={**self.about, **facts(result, self.parts)})
        return result


def mapped(cut: Cut, target: Target, settings: Preprocessing) -> Mapped:
    """Return a crop as an item of detectron2's batches: raw colours, boxes, classes, bit masks."""
    from detectron2.structures import BitMasks, Boxes, Instances

    ordered = cut.rgb[..., ::-1] if settings.bgr else cut.rgb
    image = torch.from_numpy(ordered.astype(np.float32)).permute(2, 0, 1).contiguous()
    image[:, target["ignore"]] = torch.tensor(settings.mean)[:, None]
    size = (image.shape[1], image.shape[2])
    truth = Instances(size)
    truth.gt_boxes, truth.gt_classes = Boxes(target["boxes"]), target["labels"] - 1
    truth.gt_masks = BitMasks(target["masks"].bool())
    return {"image": image, "height": size[0], "width": size[1], "instances": truth}


def trainer(model: nn.Module, run: _Run, params: TrainParams) -> Any:
    """Build detectron2's trainer of a model, with hooks for its rate, the report and the stop."""
    with importing():
        from detectron2.data import build_detection_train_loader
        from detectron2.data.samplers import TrainingSampler
        from detectron2.engine import HookBase, SimpleTrainer, hooks
        from detectron2.solver import build_optimizer

    class Steps(HookBase):  # type: ignore[misc]  # detectron2 is untyped
        """Reports each step to the run, which may stop the training there."""

        def before_step(self) -> None:
            run.before_step()

        def after_step(self) -> None:
            latest = self.trainer.storage.latest()
            run.after_step({name: float(value) for name, (value, _) in latest.items()})

    loader = build_detection_train_loader(
        [{"image_id": n} for n in range(run.count)],
        mapper=run.example,
        sampler=TrainingSampler(run.count, seed=params.seed),
        total_batch_size=params.batch,
        aspect_ratio_grouping=False,
    )
    optimizer = build_optimizer(native_config({"SOLVER.BASE_LR": params.learning_rate}), model)
    made = SimpleTrainer(model, loader, optimizer)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, run.rate)
    made.register_hooks([hooks.LRScheduler(optimizer, schedule), Steps()])
    return made
