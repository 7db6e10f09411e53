"""Slices of a project as an edit takes them: with their perturbed versions, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.rle import union
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.progress import Cancel, never
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.perturbed_slices import Prepared, prepared

if TYPE_CHECKING:
    from napari_fossiledit.editing.examples import Pair


@dataclass(frozen=True)
class Recipe:
    """How one slice is shown to the solver.

    Attributes
    ----------
    slice
        Index of the slice.
    perturb
        What is done to it; says also whose instances are the fossils, and of which class.
    place
        Positions that count like fossils although they are none; None: none do.
    """

    slice: int
    perturb: PerturbParams
    place: Mask | None = None

    def summary(self) -> dict[str, Any]:
        """Tell the recipe as JSON-able values."""
        shown = {"preset", "steps", "source", "source_score", "class_name"}
        told = self.perturb.model_dump(mode="json", include=shown)
        place = None if self.place is None else list(self.place.box)
        return {"slice": self.slice, **told, "place_box": place}


class Slices(Sequence[NDArray[np.integer[Any]]]):
    """Slices of a project, read when they are asked for."""

    def __init__(self, project: Project, slices: Sequence[int]) -> None:
        self._project, self._slices = project, slices

    def __len__(self) -> int:
        return len(self._slices)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.integer[Any]]: ...
    @overload
    def __getitem__(self, index: slice) -> Slices: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.integer[Any]] | Slices:
        if isinstance(index, slice):
            return Slices(self._project, self._slices[index])
        return self._project.stack.read(self._slices[index])


class Pairs(Sequence["Pair"]):
    """Slices of a project with their perturbed versions, made when they are asked for.

    Parameters
    ----------
    fossil_weight
        How often a position on a fossil counts, against one elsewhere.
    marked_only
        Whether positions that were not perturbed are left out.
    """

    def __init__(
        self,
        project: Project,
        recipes: Sequence[Recipe],
        fossil_weight: float,
        marked_only: bool,
        cancel: Cancel = never,
    ) -> None:
        self._project, self._recipes, self._cancel = project, recipes, cancel
        self._weight, self._marked = fossil_weight, marked_only

    def __len__(self) -> int:
        return len(self._recipes)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Pairs: ...
    def __getitem__(self, index: int | slice) -> Pair | Pairs:
        if isinstance(index, slice):
            chosen = self._recipes[index]
            return Pairs(self._project, chosen, self._weight, self._marked, self._cancel)
        return self._made(self._recipes[index])

    def _made(self, recipe: Recipe) -> Pair:
        from napari_fossiledit.editing.examples import Pair

        made = prepared(self._project, recipe.slice, recipe.perturb, cancel=self._cancel)
        mask = made.changed if self._marked else None
        return Pair(made.image, made.perturbed, self._weights(recipe, made), mask)

    def _weights(self, recipe: Recipe, made: Prepared) -> NDArray[np.float32] | None:
        name = recipe.perturb.class_name
        heavy = [i.mask for i in made.instances if i.class_name == name]
        heavy += [] if recipe.place is None else [recipe.place]
        if self._weight == 1 or not heavy:
            return None
        counts = union(heavy, self._project.slice_shape).to_array()
        return np.where(counts, self._weight, 1.0).astype(np.float32)
