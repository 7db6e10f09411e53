"""One seed of the paper's experiments: a reef, a model, edits of it and what they come to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.editing.examples import Pair
from napari_fossiledit.editing.solve import solve
from napari_fossiledit.evaluation.frontier import CUTS
from napari_fossiledit.evaluation.protocol import ProtocolResult, TruthScore, protocol
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance, Mask, cut_at
from napari_fossiledit.masks.rle import union
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.training.loop import Trainer, TrainingRecipe
from napari_fossiledit.models.training.sampling import prepare
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.editing import EditParams, SolveParams
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.segment import TrainParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.annotate import files as annotations
from napari_fossiledit.workflows.edit import run as edit
from napari_fossiledit.workflows.sample import reef as sample
from napari_fossiledit.workflows.segment import train
from napari_fossiledit.workflows.shared.ground_truth import (
    ProjectSamples,
    find_instances,
    judged_slice,
    read_ground_truth,
)
from napari_fossiledit.workflows.shared.model_refs import EditRef, ModelRef, find_model
from napari_fossiledit.workflows.shared.perturbed_slices import prepared
from napari_fossiledit.workflows.stack import new

CLASS, OTHER = "archaeocyathid", "calcimicrobe"
TRAINING = (4, 14, 24, 34, 44, 54)
TUNING, JUDGING = (9, 39), (19, 49)
SHIPPED_SEED = 1
REEF = {"slices": 64, "size": 640}
RECIPE = {
    "init": "imagenet",
    "max_steps": 250,
    "scale": 0.6,
    "crop": 320,
    "max_minutes": 600,
    "seed": 0,
    "precision": "full",
}
"""The training of the shipped weights."""


@dataclass(frozen=True)
class Stage:
    """One edit: a perturbation, the images (letters) it is shown on, and solver options."""

    perturbation: str
    images: str
    options: tuple[tuple[str, Any], ...] = ()


Recipe = tuple[Stage, ...]
"""Edits one after the other; none is the model as it was trained."""


Found = Sequence[Sequence[Instance]]
"""What was predicted on each slice."""


class Bench:
    """A reef and a model.

    Parameters
    ----------
    work
        Folder for reefs, models and what was computed.
    seed
        Of the reef.
    tell
        Takes one line of text.
    shipped
        Take the shipped model on every reef, not only on its own.
    """

    def __init__(
        self, work: Path, seed: int, tell: Callable[[str], None], *, shipped: bool = False
    ) -> None:
        self.seed, self.tell, self.shipped = seed, tell, shipped or seed == SHIPPED_SEED
        self.folder = work / f"seed{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._edits: dict[Recipe, Segmenter] = {}

    @cached_property
    def project(self) -> Project:
        """The reef as a project, made where it is missing."""
        reef, path = self.folder / "reef", self.folder / "reef.fossil"
        params = ReefParams(seed=self.seed, **REEF)
        if not (reef / "annotations.json").exists():
            self.tell(f"seed {self.seed}: making the reef")
            sample.run(reef, params)
        if not (path / "project.json").exists():
            voxels = NewParams(
                pixel_size=params.pixel_size_um, slice_spacing=params.slice_spacing_um
            )
            new.run(path, reef / "images", voxels)
            annotations.import_annotations(path, ImportParams(file=reef / "annotations.json"))
        return Project.open(path)

    @cached_property
    def model(self) -> Segmenter:
        """The model, trained where it is missing."""
        return self.model_ref.load()

    @cached_property
    def model_ref(self) -> ModelRef:
        """Where the model lies."""
        if self.shipped:
            return find_model(self.project, "reef-lite")
        return self.trained("reef", CLASS)

    def trained(self, name: str, *classes: str) -> ModelRef:
        """Train where it is missing; each checkpoint that was judged stays beside the project."""
        if name not in self.project.models():
            self.tell(f"seed {self.seed}: training {name}, some minutes")
            kept, inner = self._checkpoints(name), Trainer.keep_if_better
            kept.mkdir(exist_ok=True)

            def keep(trainer: Trainer, score: float) -> bool:
                both = (("network", trainer.network), ("average", trainer.average))
                tensors = {
                    f"{kind}.{key}": value.detach().contiguous().clone()
                    for kind, network in both
                    for key, value in network.state_dict().items()
                }
                save_file(tensors, kept / f"{len(list(kept.iterdir())):02d}.safetensors")
                return inner(trainer, score)

            slices = format_slices(TRAINING)
            params = TrainParams(name=name, slices=slices, classes=classes, **RECIPE)
            with patch.object(Trainer, "keep_if_better", keep):
                train.run(self.project.path, params)
        return find_model(self.project, name)

    def _checkpoints(self, name: str) -> Path:
        return self.folder / f"checkpoints-{name}"

    @cached_property
    def images(self) -> dict[str, int]:
        """Training slices as A to F, by rising share of archaeocyathid pixels."""
        order = sorted(TRAINING, key=lambda z: int(self._fossils(z).sum()))
        return dict(zip("ABCDEF", order, strict=True))

    def judged(
        self, recipe: Recipe, strength: float = 1.0, *, tuning: bool = False
    ) -> ProtocolResult:
        """Judge an edit by the paper's protocol, or take what was judged before."""
        told = [[asdict(s) for s in recipe], strength if recipe else 0, tuning]
        slices = TUNING if tuning else JUDGING
        return self.kept(
            told, lambda: self.judge(self.find(self._edited(recipe, strength), slices), slices)
        )

    def kept(self, told: Any, judge: Callable[[], ProtocolResult]) -> ProtocolResult:
        """Return what was judged before under a name, else judge."""
        text = json.dumps(told)
        file = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        if file.exists():
            found = json.loads(file.read_text())
            truths = tuple(TruthScore(**t) for t in found["truths"])
            return ProtocolResult(truths, found["predictions"], found["spurious"])
        result = judge()
        kept = {
            "told": text,
            "truths": [asdict(t) for t in result.truths],
            "predictions": result.predictions,
            "spurious": result.spurious,
        }
        file.write_text(json.dumps(kept))
        return result

    def find(self, model: Segmenter, slices: Sequence[int] = JUDGING) -> Found:
        """Predict slices."""
        return [find_instances(model, self.project, z) for z in slices]

    def judge(
        self, found: Found, slices: Sequence[int] = JUDGING, *, score: float = 0.0
    ) -> ProtocolResult:
        """Judge predictions by the paper's protocol."""
        truths = [read_ground_truth(self.project, z) for z in slices]
        pairs = zip(truths, found, strict=True)
        return protocol([judged_slice(self.project, *p, CLASS) for p in pairs], score=score)

    def _edited(self, recipe: Recipe, strength: float) -> Segmenter:
        """Edit stage after stage; the stages but the last are kept, since sequences share them."""
        if not recipe:
            return self.model
        parent = self._edited(recipe[:-1], 1.0)
        return self._edit(recipe, parent).apply(parent, strength)

    def _edit(self, recipe: Recipe, parent: Segmenter) -> Edit:
        told = json.dumps([asdict(s) for s in recipe])
        file = self.folder / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
        if file.exists():
            return Edit.from_bytes(file.read_bytes(), str(file))
        stage = recipe[-1]
        params = SolveParams(**dict(stage.options))
        solution = solve(
            parent,
            [self._pair(stage.perturbation, i, params.fossil_weight) for i in stage.images],
            params,
            preserve=[self.project.stack.read(z) for z in TRAINING],
            pixel_size_um=self.project.geometry.pixel_size_um,
        )
        file.write_bytes(solution.edit.to_bytes())
        return solution.edit

    def _pair(self, perturbation: str, image: str, fossil_weight: float) -> Pair:
        z = self.images[image]
        made = prepared(self.project, z, self._perturbation(perturbation, z))
        weight = None
        if fossil_weight != 1:
            weight = np.where(self._fossils(z), fossil_weight, 1.0).astype(np.float32)
        return Pair(made.image, made.perturbed, weight)

    def _perturbation(self, name: str, z: int) -> PerturbParams:
        """Presets by their name; the paper's partial ones as chosen objects."""
        steps = {
            "one-calcimicrobe": lambda: f"instance {self._calcimicrobe(z)} -> mud",
            "rock-face": lambda: f"class rock_face and not class {CLASS} -> mud",
            "one-mud-filled": lambda: f"instance {self._mud_filled(z)} -> texture",
            "mud-filled": lambda: "texture mud_filled -> texture",
            "background-to-soft-mud": lambda: f"other {CLASS} -> mud + blur 8",
            "background-to-blur": lambda: f"other {CLASS} -> blur 4",
        }.get(name)
        if steps is None:
            return PerturbParams(preset=name, class_name=CLASS)
        return PerturbParams(preset="custom", steps=steps(), class_name=CLASS)

    def _calcimicrobe(self, z: int) -> int | None:
        """Find the one that covers nearest to 1 % of the slice."""
        wanted = 0.01 * np.prod(self.project.slice_shape)
        bodies = self.project.instances(ANNOTATIONS, z, class_name=OTHER)
        return min(bodies, key=lambda i: abs(i.mask.area - wanted)).id

    def _mud_filled(self, z: int) -> int | None:
        """Find the one that covers nearest to 6 % of the archaeocyathid pixels."""
        wanted = 0.06 * self._fossils(z).sum()
        bodies = self.project.instances(ANNOTATIONS, z, class_name=CLASS)
        filled = [i for i in bodies if i.texture == "mud_filled"]
        return min(filled, key=lambda i: abs(i.mask.area - wanted)).id

    def _fossils(self, z: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        bodies = self.project.instances(ANNOTATIONS, z, class_name=CLASS)
        return union([i.mask for i in bodies], self.project.slice_shape).to_array()

    def shares(self) -> dict[str, float]:
        """Share of the pixels that a partial perturbation fills: of all others, or of fossils."""
        found = {}
        for name, image in (("one-calcimicrobe", "C"), ("rock-face", "C")):
            found[name] = self._share(name, image, of_fossils=False)
        for name, image in (("one-mud-filled", "D"), ("mud-filled", "D")):
            found[name] = self._share(name, image, of_fossils=True)
        return found

    def _share(self, name: str, image: str, *, of_fossils: bool) -> float:
        z = self.images[image]
        fossils = self._fossils(z)
        whole = fossils if of_fossils else ~fossils
        changed = prepared(self.project, z, self._perturbation(name, z)).changed
        return float((changed & whole).sum() / whole.sum())

    def preservation(self, pull_to: str) -> float:
        """Mean change of the output on the tuning slices, as share of its size, over levels."""
        options = {"solver": "ridge", "fossil_weight": 1.0, "pull": 1.0, "pull_to": pull_to}
        solution = solve(
            self.model,
            [self._pair("background-to-mud", "C", 1.0)],
            SolveParams(**options),
            preserve=[self.project.stack.read(z) for z in TUNING],
            pixel_size_um=self.project.geometry.pixel_size_um,
        )
        return float(np.mean(list(solution.preservation.values())))

    # ------------------------------------------------- what the unedited model gives for less

    @cached_property
    def unedited(self) -> Found:
        """What the unedited model finds on the judging slices."""
        return self.find(self.model)

    @cached_property
    def at_cuts(self) -> dict[float, ProtocolResult]:
        """The unedited model with its masks cut at every probability of `CUTS`."""
        return {
            cut: self.judge([cut_at(found, cut, "the model") for found in self.unedited])
            for cut in CUTS
        }

    @cached_property
    def default_edit(self) -> EditRef:
        """The edit that the program makes by itself, with the strength that it chooses."""
        model = self.model_ref.name
        name = f"{model}-edited"
        if name not in self.project.edits.names():
            slices, tuning, pinned = map(format_slices, (TRAINING, TUNING, JUDGING))
            params = {"slices": slices, "tuning": tuning, "pinned": pinned}
            edit.run(self.project.path, EditParams(name=name, model=model, **params))
        return find_model(self.project, name)

    def averaged(self, kind: str, last: int) -> Segmenter:
        """Take the mean of the last checkpoints: of the weights, or of their running average."""
        files = sorted(self._checkpoints("reef").iterdir())[-last:]
        states = [load_file(file) for file in files]
        network = MaskRcnn(self.model.spec)
        mean = {
            key: torch.stack([state[f"{kind}.{key}"].double() for state in states]).mean(0)
            for key in network.state_dict()
        }
        network.load_state_dict(mean)
        return MaskRcnnSegmenter(network, self.model.preprocessing)

    def fine_tuned(self, steps: int, rate: float) -> Segmenter:
        """Train on for some steps, with a softened copy beside each training slice."""
        settings = self.model.preprocessing
        samples = ProjectSamples(self.project, TRAINING, (), (CLASS,))
        shown = []
        for z in TRAINING:
            traced = samples.read(z)
            softened = prepared(self.project, z, self._perturbation("background-to-blur", z))
            both = (traced, replace(traced, image=softened.perturbed))
            shown += [prepare(one, settings, (CLASS,)) for one in both]
        # A new network knows which of its stages are trained.
        network = MaskRcnn(self.model.spec)
        network.load_state_dict(self.model.weights())
        recipe = TrainingRecipe(RECIPE["crop"], rate=rate)
        trainer = Trainer(network, settings, recipe, torch.device("cpu"))
        for step in range(steps):
            trainer.step(step, step / steps, shown.__getitem__, len(shown))
        return MaskRcnnSegmenter(trainer.average, settings)


def eroded(found: Found) -> Found:
    """Take one pixel off the rim of every mask; what is nothing then is left out."""
    return [
        [
            replace(i, mask=mask)
            for i in instances
            if (mask := Mask.from_array(ndimage.binary_erosion(i.mask.to_array()))).area
        ]
        for instances in found
    ]


def pooled(results: Sequence[ProtocolResult]) -> ProtocolResult:
    """Join the judgements of several seeds."""
    return ProtocolResult(
        tuple(t for r in results for t in r.truths),
        sum(r.predictions for r in results),
        sum(r.spurious for r in results),
    )
