"""Write what a model looks at in one slice, as an array and as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.charts import INK, drawn
from napari_fossiledit.files import appearing, inside, write_json, write_whole
from napari_fossiledit.geometry import check_slice
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.params.saliency import Method, Said, SaliencyParams
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.stacks.window import Window
from napari_fossiledit.summary import plain
from napari_fossiledit.workflows.segment.predict import predict_missing
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.shared.seen import seen
from napari_fossiledit.workflows.shared.sources import known_class

if TYPE_CHECKING:
    from napari_fossiledit.saliency.looking import Saliency

ARRAY, PICTURE, FIGURES = "saliency.npz", "saliency.png", "saliency.json"

_INEXACT = 0.01
"""Share of what is explained that the contributions may miss before it is said."""
_LINE, _INCHES = (0, 255, 255), 3.6
"""Colour of outlines, and width of the picture of one slice."""
_BRIGHTEST = 0.2
"""Share of all saliency in the pixels that are drawn as the strongest: a single one would make all
others dark."""


@dataclass(frozen=True)
class SaliencyResult:
    """What a model looks at in one slice.

    Attributes
    ----------
    model, slice, instances
        What was asked: ids of the instances, None of those that are not stored.
    method, of
        How the map was made, and of what.
    value, without
        What the model says, summed over the instances, and what it says of the baseline.
    near
        Slices of the window, in stack order; Grad-CAM: the slice alone.
    shares
        Share of the slices of the window in all |saliency|; empty for Grad-CAM.
    cost
        Gradients that were to be computed, and the memory of one, as estimated before.
    folder
        Where array, picture and figures are.
    notes
        What was assumed or left out, in sentences.
    strongest
        Value of the maps that is drawn as the strongest.
    maps
        (slices, y, x) float32: |saliency| summed over colours, at the network's scale.
    """

    model: str
    slice: int
    instances: tuple[int | None, ...]
    method: Method
    of: Said
    value: float
    without: float
    near: tuple[int, ...]
    shares: tuple[float, ...]
    cost: str
    folder: Path
    notes: tuple[str, ...] = ()
    strongest: float = 1.0
    maps: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values, without the maps."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "maps"}
        return cast("dict[str, Any]", plain(values))


def run(project_path: Path, params: SaliencyParams, *, job: Job = QUIET) -> SaliencyResult:
    """Compute what a model looks at in a slice, and write it into the reports of the project.

    Raises
    ------
    FossilError
        Where there is no such model, slice or instance, nothing was found, the stack is shorter
        than the window of the model, or the memory does not suffice.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        z, ref = check_slice(params.z, project.shape[0]), find_model(project, params.model)
        # Where the stack is too short nothing needs to be predicted first.
        image = seen(project, ref.window, z)
        instances = _asked(project, params, z, job)
        job.report(0, 0, "Loading the model")
        from napari_fossiledit.editing.memory import require_memory
        from napari_fossiledit.saliency.looking import gradients, look, memory

        segmenter, pixel = ref.load(params.device), project.geometry.pixel_size_um
        tiles = segmenter.held(image, instances, pixel_size_um=pixel, tile=params.tile)
        need = require_memory(
            memory(tiles),
            "what the model looks at",
            segmenter.device,
            "Choose a smaller tile, such as 512, or close other programs.",
        )
        count = gradients(params) * len(tiles)
        plural = "s, one at a time," if count > 1 else ""
        estimate = f"{count} gradient{plural} of about {need / 2**30:.2f} GB"
        job.report(0, count, estimate)
        found = look(segmenter, image, instances, params, pixel_size_um=pixel, job=job)
        # The map of Grad-CAM is of the whole window.
        is_whole = params.method is Method.GRAD_CAM
        window = Window() if is_whole else ref.window
        shape = (window.slices, -1, *found.values.shape[1:])
        maps = np.abs(found.values).reshape(shape).sum(1)
        total = maps.sum((1, 2), dtype=np.float64)
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        result = SaliencyResult(
            model=ref.name,
            slice=z,
            instances=tuple(i.id for i in instances),
            method=params.method,
            of=params.of,
            value=found.value,
            without=found.without,
            near=tuple(window.near(z, project.shape[0])),
            shares=() if is_whole else tuple((total / max(total.sum(), 1e-30)).tolist()),
            folder=inside(project.reports, f"saliency-{ref.name}-{z:04d}-{stamp}"),
            cost=estimate,
            notes=(*ref.notes, *_notes(found, params)),
            strongest=_strongest(maps),
            maps=maps,
        )
        said = params.model_dump(mode="json")
        recorded = project.ledger.recorded("saliency", said)
        with recorded as summary, appearing(result.folder) as draft:
            _write(draft, project, result, found.values, instances)
            write_json(draft / FIGURES, {**result.summary(), "params": said})
            summary.update(result.summary())
    return result


def _asked(project: Project, params: SaliencyParams, z: int, job: Job) -> list[Instance]:
    """Return the instance of an id, or those of a class that the model finds in a slice."""
    name = known_class(project, params.class_name)
    if params.instance:
        asked: dict[str, Any] = {"slices": [z], "ids": [params.instance], "with_probability": True}
        for source in project.ledger.sources():
            if chosen := project.ledger.instances(source.name, **asked):
                return chosen
        raise FossilError(
            f"Slice {z} has no instance {params.instance}",
            expected="the id of an instance of this slice",
            found=params.instance,
            advice="Predict the slice first, or leave the instance out.",
        )
    usual = PredictParams(model=params.model, device=params.device)
    return project.ledger.instances(
        predict_missing(project, usual, [z], job=job).source,
        slices=[z],
        class_name=name or None,
        part=Part.BODY,
        min_score=params.score,
        with_probability=True,
    )


def _strongest(maps: NDArray[np.float32]) -> float:
    """Return the value above which the brightest pixels lie, above 0."""
    values = np.sort(maps, axis=None)
    sums = values.cumsum(dtype=np.float64)
    place = int(np.searchsorted(sums, (1 - _BRIGHTEST) * sums[-1]))
    return max(float(values[min(place, len(values) - 1)]), 1e-30)


def _notes(found: Saliency, params: SaliencyParams) -> list[str]:
    """Say what was compared with what, what the contributions add up to, and what was left out."""
    notes = []
    if params.method in (Method.INTEGRATED, Method.INPUT_X_GRADIENT):
        notes.append(
            "The pixels are compared with the colour that the model's normalisation makes zero, the"
            " mean colour that it expects."
        )
    change = found.value - found.without
    if params.method is Method.INTEGRATED and change:
        missed = float(found.values.sum(dtype=np.float64)) / change - 1
        notes.append(
            f"The contributions of all pixels add up to {1 + missed:.1%} of the change from there."
        )
        if abs(missed) > _INEXACT:
            notes.append("That is more than 1 % off: take more steps.")
    if found.seen < 1:
        notes.append(
            f"Looked at were the tiles that hold the instances, {percent(found.seen)} of the slice."
        )
    return notes


def _write(
    folder: Path,
    project: Project,
    result: SaliencyResult,
    values: NDArray[np.float32],
    instances: Sequence[Instance],
) -> None:
    """Write the map of all channels, and a picture of it over each slice of the window."""
    stream = io.BytesIO()
    np.savez_compressed(stream, values=values, slices=np.array(result.near))
    write_whole(folder / ARRAY, stream.getvalue())
    masks = [i.mask for i in instances]

    def draw(figure: Any) -> None:
        height, width = project.slice_shape
        panels = figure.subplots(1, len(result.near), squeeze=False)[0]
        figure.set_size_inches(_INCHES * len(panels), _INCHES * height / width + 0.3)
        for n, (axes, z) in enumerate(zip(panels, result.near, strict=True)):
            shown = pictures.outline(pictures.as_rgb(project.contents.read(z)), masks, _LINE)
            axes.imshow(shown, extent=(0, width, height, 0))
            heat = np.clip(result.maps[n] / result.strongest, 0, 1)
            axes.imshow(heat, cmap="inferno", alpha=heat**0.5, vmax=1, extent=(0, width, height, 0))
            share = f": {percent(result.shares[n])}" if len(result.shares) > 1 else ""
            axes.set_title(f"slice {z}{share}", fontsize=9, color=INK)
            axes.axis("off")

    write_whole(folder / PICTURE, drawn(draw))
