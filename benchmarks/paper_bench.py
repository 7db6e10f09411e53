"""One seed of the paper's experiments: a reef, a model, edits of it and what they come to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.editing.examples import Pair
from napari_fossiledit.editing.solve import solve
from napari_fossiledit.evaluation.protocol import ProtocolResult, TruthScore, protocol
from napari_fossiledit.masks.rle import union
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.editing import SolveParams
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.segment import TrainParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.annotate import files as annotations
from napari_fossiledit.workflows.sample import reef as sample
from napari_fossiledit.workflows.segment import train
from napari_fossiledit.workflows.shared.ground_truth import (
    find_instances,
    judged_slice,
    read_ground_truth,
)
from napari_fossiledit.workflows.shared.model_refs import find_model
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
    """

    def __init__(self, work: Path, seed: int, tell: Callable[[str], None]) -> None:
        self.seed, self.tell = seed, tell
        self.folder = work / f"seed{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._edits: dict[Recipe, Segmenter] = {}

    @cached_property
    def project(self) -> Project:
        """The reef as a project, made where it is missing."""
        reef, path = self.folder / "reef", self.folder / "reef.fossil"
        if not (reef / "annotations.json").exists():
            self.tell(f"seed {self.seed}: making the reef")
            sample.run(reef, ReefParams(seed=self.seed, **REEF))
        if not (path / "project.json").exists():
            new.run(path, reef / "images", NewParams())
            annotations.import_annotations(path, ImportParams(file=reef / "annotations.json"))
        return Project.open(path)

    @cached_property
    def model(self) -> Segmenter:
        """The model, trained where it is missing."""
        name = "reef-lite" if self.seed == SHIPPED_SEED else "reef"
        if self.seed != SHIPPED_SEED and name not in self.project.models():
            self.tell(f"seed {self.seed}: training, some minutes")
            slices = ",".join(map(str, TRAINING))
            params = TrainParams(name=name, slices=slices, classes=(CLASS,), **RECIPE)
            train.run(self.project.path, params)
        return find_model(self.project, name).load()

    @cached_property
    def images(self) -> dict[str, int]:
        """Training slices as A to F, by rising share of archaeocyathid pixels."""
        order = sorted(TRAINING, key=lambda z: int(self._fossils(z).sum()))
        return dict(zip("ABCDEF", order, strict=True))

    def judged(
        self, recipe: Recipe, strength: float = 1.0, *, tuning: bool = False
    ) -> ProtocolResult:
        """Judge an edit by the paper's protocol, or take what was judged before."""
        told = json.dumps([[asdict(s) for s in recipe], strength if recipe else 0, tuning])
        file = self.folder / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"
        if file.exists():
            found = json.loads(file.read_text())
            truths = tuple(TruthScore(**t) for t in found["truths"])
            return ProtocolResult(truths, found["predictions"], found["spurious"])
        result = self._judge(recipe, strength, TUNING if tuning else JUDGING)
        kept = {
            "told": told,
            "truths": [asdict(t) for t in result.truths],
            "predictions": result.predictions,
            "spurious": result.spurious,
        }
        file.write_text(json.dumps(kept))
        return result

    def _judge(self, recipe: Recipe, strength: float, slices: Sequence[int]) -> ProtocolResult:
        model = self._edited(recipe, strength)
        truths = [read_ground_truth(self.project, z) for z in slices]
        found = [find_instances(model, self.project, z) for z in slices]
        judged = [
            judged_slice(self.project, t, f, CLASS) for t, f in zip(truths, found, strict=True)
        ]
        return protocol(judged)

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


def pooled(results: Sequence[ProtocolResult]) -> ProtocolResult:
    """Join the judgements of several seeds."""
    return ProtocolResult(
        tuple(t for r in results for t in r.truths),
        sum(r.predictions for r in results),
        sum(r.spurious for r in results),
    )
