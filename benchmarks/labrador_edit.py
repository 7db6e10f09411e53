"""Editing on the real slice: the paper's rock, one half to learn from, the other to judge.

    python benchmarks/labrador_edit.py PROJECT MODEL [--adam-steps 2000] [--json FILE]

PROJECT holds the traced Labrador slice and MODEL was trained on its columns below --split. The
slice is perturbed (all but the archaeocyathids to mud) and the edit is fitted left of the split
only; instances right of it are judged, those marked unsure are left out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.editing.examples import Pair
from napari_fossiledit.editing.solve import solve
from napari_fossiledit.evaluation.compare import Comparison, compare
from napari_fossiledit.evaluation.figures import pixels
from napari_fossiledit.geometry import Region
from napari_fossiledit.masks.rle import union
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.params.editing import EditParams, Pull, SolveParams, Solver
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.ground_truth import (
    find_instances,
    judged_slice,
    read_ground_truth,
)
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.shared.perturbed_slices import prepared

CLASS, SLICE = "archaeocyathid", 0
STRENGTHS = (1.0, 0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Way:
    """One way to edit: its name, what is perturbed, how it is solved, how much fossils count."""

    name: str
    perturb: PerturbParams
    solve: SolveParams
    fossil_weight: float = 1.0


def ways(steps: int) -> list[Way]:
    """List what is compared: the product's default, other direct solvers, and the paper's."""
    mud = PerturbParams(class_name=CLASS)
    default = EditParams(class_name=CLASS)
    held = {"pull": 0.1, "pull_to": Pull.WEIGHTS}
    return [
        Way(
            "default of `edit`: masks alone, background blurred, fossils weigh 10",
            PerturbParams(preset=default.preset, class_name=CLASS),
            SolveParams(**{name: getattr(default, name) for name in SolveParams.model_fields}),
            default.fossil_weight,
        ),
        Way("`ridge`, all positions alike", mud, SolveParams(solver=Solver.RIDGE, **held)),
        Way("`ridge`, fossils weigh 30", mud, SolveParams(solver=Solver.RIDGE, **held), 30.0),
        Way("`direct`, fossils weigh 100", mud, SolveParams(solver=Solver.DIRECT, **held), 100.0),
        Way(f"`adam`, {steps} steps", mud, SolveParams(solver=Solver.ADAM, adam_steps=steps)),
    ]


def left_pair(project: Project, split: int, way: Way) -> Pair:
    """Pair the slice with its perturbed self; only the columns left of the split count."""
    made = prepared(project, SLICE, way.perturb)
    left = slice(0, split)
    if way.fossil_weight == 1:
        return Pair(made.image[:, left], made.perturbed[:, left])
    fossils = [i.mask for i in made.instances if i.class_name == CLASS]
    on_fossil = union(fossils, project.slice_shape).to_array()
    weight = np.where(on_fossil, way.fossil_weight, 1.0).astype(np.float32)
    return Pair(made.image[:, left], made.perturbed[:, left], weight[:, left])


def edits(
    project: Project, model: Segmenter, split: int, steps: int
) -> Iterator[tuple[str, Edit, float]]:
    """Solve in each way; yield its name, the edit and the seconds."""
    for way in ways(steps):
        began = time.monotonic()
        pair = left_pair(project, split, way)
        size = project.geometry.pixel_size_um
        edit = solve(model, [pair], way.solve, pixel_size_um=size).edit
        yield way.name, edit, time.monotonic() - began


def run(project: Project, name: str, split: int, steps: int) -> list[dict[str, object]]:
    """Print and return one row for each way and strength."""
    model = find_model(project, name).load()
    truth = read_ground_truth(project, SLICE, Region(x0=split))
    before = judged_slice(project, truth, find_instances(model, project, SLICE), CLASS)
    rows = [row("unedited", 0.0, compare([before], [before]), pixels([before], score=0.5), 0.0)]
    for told, edit, seconds in edits(project, model, split, steps):
        for strength in STRENGTHS:
            found = find_instances(edit.apply(model, strength), project, SLICE)
            after = judged_slice(project, truth, found, CLASS)
            figures = compare([before], [after])
            rows.append(row(told, strength, figures, pixels([after], score=0.5), seconds))
    return rows


def row(
    name: str, strength: float, figures: Comparison, area: object, seconds: float
) -> dict[str, object]:
    """Print a row of the table and return it."""
    after = figures.after
    means = {
        key: getattr(after, key).mean
        for key in ("precision", "recall", "iou", "recall_all", "iou_all")
    }
    shares = {f"pixel_{key}": getattr(area, key) for key in ("precision", "recall")}
    told = [f"{v:.3f}" if v is not None else "-" for v in (*means.values(), *shares.values())]
    matched = f"{after.matched} of {len(after.truths)}"
    cells = (name, f"{strength:g}", *told[:3], matched, *told[3:], f"{seconds:.0f}")
    print("| " + " | ".join(cells) + " |", flush=True)
    found = {"way": name, "strength": strength, **means, **shares}
    return {**found, "matched": after.matched, "truths": len(after.truths), "seconds": seconds}


def main() -> None:
    """Read the command line, print the table, write the figures."""
    parser = argparse.ArgumentParser(description="Edit with one half of a slice, judge the other.")
    parser.add_argument("project", type=Path)
    parser.add_argument("model")
    parser.add_argument("--split", type=int, default=1600)
    parser.add_argument("--adam-steps", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print("| edit | strength | P | R | IoU | matched | R all | IoU all | pixel P | pixel R | s |")
    print("|" + "---|" * 11)
    with Project.open(options.project) as project:
        rows = run(project, options.model, options.split, options.adam_steps)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
