"""Take one optimisation step after another, with everything needed to go on after a crash."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, write_whole
from napari_fossiledit.models.files.checkpoint import fill
from napari_fossiledit.models.inference.precision import halved
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.network.backbones import first_convolution
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.training.augment import Variation, random_batch
from napari_fossiledit.models.training.sampling import PreparedSlice
from napari_fossiledit.params.segment import FirstLayer, TrainParams
from napari_fossiledit.progress import Progress

_DECAY = 0.998
"""Share of the running average that a step keeps: it spans about the last 500 steps."""
# torch's own default for AdamW.
_WEIGHT_DECAY = 0.01
_LONGEST_GRADIENT = 5.0
"""Norm to which longer gradients are cut."""

_WARM = 0.06
"""Share of a training in which the learning rate rises."""
_FIRST, _LAST = 0.05, 0.002
"""Share of the peak learning rate at the beginning and at the end."""


@dataclass
class Budget:
    """Steps and minutes a training may take; whichever is used up first ends it.

    The learning rate follows the larger used share, so that it always comes down in time however
    fast the machine is. A run that its steps end is the same on every run.
    """

    max_steps: int
    max_seconds: float
    step: int = 0
    spent: float = 0.0
    _start: float = field(default_factory=time.monotonic)

    def restart(self, step: int, spent: float) -> None:
        """Start the clock with what earlier runs have used."""
        self.step, self.spent, self._start = step, spent, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds that this and earlier runs took."""
        return self.spent + time.monotonic() - self._start

    @property
    def share(self) -> float:
        """Share of the budget that is used, 0 to 1.

        Time counts in whole steps, so that it changes nothing where the steps are used up first.
        """
        by_time = int(self.seconds / self.max_seconds * self.max_steps)
        return min(max(self.step, by_time) / self.max_steps, 1.0)

    @property
    def expected(self) -> int:
        """Steps that it will have taken at the end, at the speed so far."""
        share = self.share
        return min(self.max_steps, round(self.step / share)) if share > 0 else self.max_steps

    def progress(self, message: str, figures: dict[str, float]) -> Progress:
        """Return a report that counts steps."""
        return Progress(self.step, max(self.expected, self.step), message, self.eta_s, figures)

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end, None before the first step."""
        share = self.share
        return self.seconds * (1 - share) / share if self.step and share > 0 else None


def one_cycle(share: float) -> float:
    """Compute the share of the peak learning rate: a short rise, then a cosine.

    After Smith & Topin 2018 (Super-convergence).
    """
    if share < _WARM:
        return _FIRST + (1 - _FIRST) * share / _WARM
    fall = (1 + math.cos(math.pi * (share - _WARM) / (1 - _WARM))) / 2
    return _LAST + (1 - _LAST) * fall


@dataclass(frozen=True)
class TrainingRecipe:
    """Choices of a training step.

    Attributes
    ----------
    edge, batch
        Size and number of crops.
    rate
        Peak learning rate of AdamW (Loshchilov & Hutter 2019).
    """

    edge: int = 512
    batch: int = 2
    rate: float = 6e-4
    seed: int = 0
    variation: Variation = field(default_factory=Variation)


class Trainer:
    """A network in training, its running average and its optimiser.

    The random choices of a step depend on the seed and the number of the step alone, so that a run
    that was killed goes on exactly as it would have. The running average of the weights (Polyak &
    Juditsky 1992) is what is judged and kept: with few slices it is the steadier of the two.

    Attributes
    ----------
    mixed
        Most of the network is computed in bfloat16; weights, losses and optimiser are float32.
    """

    def __init__(
        self,
        network: MaskRcnn,
        settings: Preprocessing,
        recipe: TrainingRecipe,
        device: torch.device,
        *,
        mixed: bool = False,
    ) -> None:
        self.network = network.to(device)
        self.mixed = mixed
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.best = self.network_state()
        self.best_score = -math.inf
        self.settings, self.recipe, self.device = settings, recipe, device
        if network.spec.first_layer is FirstLayer.SYMMETRIC:
            order = settings.window.mirrored
            # Equal weights with equal gradients stay equal.
            weight = first_convolution(self.network.backbone).weight
            weight.register_hook(lambda gradient: (gradient + gradient[:, order]) / 2)
        self._learned = [p for p in self.network.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(
            self._learned, lr=recipe.rate, weight_decay=_WEIGHT_DECAY
        )

    @cached_property
    def _halved(self) -> MaskRcnn:
        """The network in bfloat16 for the most part, with the same weights."""
        return halved(self.network)

    def network_state(self) -> dict[str, Tensor]:
        """Return a copy of the averaged weights."""
        return {k: v.detach().cpu().clone() for k, v in self.average.state_dict().items()}

    def step(
        self, number: int, share: float, source: Callable[[int], PreparedSlice], slices: int
    ) -> dict[str, float]:
        """Take step `number` (from 0) and return its losses.

        Parameters
        ----------
        share
            How far the training is, 0 to 1; sets the learning rate.
        source
            Gives the prepared training slice of an index below `slices`.

        Raises
        ------
        FossilError
            Where the loss is no finite number.
        """
        random = np.random.default_rng([self.recipe.seed, number])
        chosen = [source(int(i)) for i in random.integers(slices, size=self.recipe.batch)]
        crops, targets = random_batch(
            chosen, self.recipe.edge, self.settings, self.recipe.variation, random
        )
        images = crops.to(self.device)
        targets = [{n: value.to(self.device) for n, value in t.items()} for t in targets]
        # torch draws as well, when it samples anchors and regions.
        mixed = np.random.SeedSequence([self.recipe.seed, number]).generate_state(1, np.uint64)
        torch.manual_seed(int(mixed[0] >> 1))
        network = self._halved if self.mixed else self.network
        losses = network.train().losses(images, targets)
        total = torch.stack(list(losses.values())).sum()
        values = {name: float(value.detach()) for name, value in losses.items()}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise FossilError(
                f"The training diverged at step {number}",
                expected="finite losses",
                found=f"{', '.join(bad)} is not a number",
                advice="Train again with a lower learning rate.",
            )
        rate = self.recipe.rate * one_cycle(share)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self._learned, _LONGEST_GRADIENT)
        self._optimiser.step()
        self._follow(number)
        return {"loss": sum(values.values()), **values, "rate": rate}

    @torch.no_grad()
    def _follow(self, number: int) -> None:
        """Move the average towards the weights, faster in the beginning."""
        # With the full share from the start, untrained weights would stay in the average for long.
        weight = 1 - min(_DECAY, (1 + number) / (10 + number))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for slow, fast in pairs:
            if fast.requires_grad:
                slow.lerp_(fast, weight)

    def keep_if_better(self, score: float) -> bool:
        """Keep the averaged weights where `score` is no worse than any before; return whether."""
        better = score >= self.best_score
        if better:
            self.best, self.best_score = self.network_state(), score
        return better

    def best_network(self) -> MaskRcnn:
        """Return a network with the best weights so far."""
        network = copy.deepcopy(self.average)
        network.load_state_dict(self.best)
        return network

    def save(self, path: Path, budget: Budget, about: dict[str, Any]) -> None:
        """Write everything to go on from into one file, in one step."""
        tensors = {f"best.{k}": v for k, v in self.best.items()}
        for prefix, network in (("network", self.network), ("average", self.average)):
            tensors |= {f"{prefix}.{k}": v.cpu() for k, v in network.state_dict().items()}
        for index, state in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v.cpu() for k, v in state.items()}
        facts = {
            "step": budget.step,
            "seconds": budget.seconds,
            "best_score": self.best_score,
            "mixed": self.mixed,
            "about": about,
        }
        # safetensors takes contiguous tensors only, and the weights lie with channels last.
        packed = {k: v.contiguous() for k, v in tensors.items()}
        write_whole(path, save_tensors(packed, {"state": json.dumps(facts)}))

    def load(self, path: Path, budget: Budget, about: dict[str, Any]) -> None:
        """Go on from a file that `save` wrote, in the precision of that training.

        Raises
        ------
        FossilError
            Where the file is broken or belongs to a training with other parameters.
        """
        tensors, facts = _read_state(path)
        # Parameters that came later were what they are by default.
        before = {**TrainParams().model_dump(mode="json"), **facts["about"]}
        other = sorted(k for k in about if about[k] != before.get(k))
        if other:
            raise FossilError(
                f"{path} belongs to another training",
                expected=", ".join(f"{k} = {about[k]}" for k in other),
                found=", ".join(f"{k} = {before.get(k)}" for k in other),
                advice="Resume with the same parameters, or train from the beginning.",
            )
        groups: dict[str, dict[str, Tensor]] = {"best": {}, "network": {}, "average": {}}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, rest = name.split(".", 1)
            if group == "optimiser":
                index, key = rest.split(".", 1)
                moments.setdefault(int(index), {})[key] = tensor
            else:
                groups[group][rest] = tensor
        fill(self.network, groups["network"], str(path))
        fill(self.average, groups["average"], str(path))
        self.best, self.best_score = groups["best"], float(facts["best_score"])
        # What began before there was a choice began in float32.
        self.mixed = bool(facts.get("mixed", False))
        state = self._optimiser.state_dict()
        self._optimiser.load_state_dict({**state, "state": moments})
        budget.restart(int(facts["step"]), float(facts["seconds"]))


def _read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with explained(path, "Reading"):
        path.stat()
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads(stream.metadata()["state"])
            return {key: stream.get_tensor(key) for key in stream.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise FossilError(
            f"{path} cannot be read",
            expected="the state of an unfinished training",
            found=str(error),
            advice="Delete the file to train from the beginning.",
        ) from error
