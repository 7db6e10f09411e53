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
from pathlib import Path

import numpy as np

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.editing.examples import Pair
from napari_fossiledit.editing.solve import solve
from napari_fossiledit.evaluation.compare import Comparison, compare
from napari_fossiledit.evaluation.pixels import pixels
from napari_fossiledit.geometry import Region
from napari_fossiledit.masks.rle import union
from napari_fossiledit.models.maskrcnn import MaskRcnnSegmenter
from napari_fossiledit.params.editing import SolveParams
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.judging import find_instances, judged_slice
from napari_fossiledit.workflows.models import find_model
from napari_fossiledit.workflows.perturbing import prepared
from napari_fossiledit.workflows.truth import read_truth

CLASS, SLICE = "archaeocyathid", 0
STRENGTHS = (1.0, 0.5, 0.25)


def left_pair(project: Project, split: int, fossil_weight: float) -> Pair:
    """Pair the slice with its perturbed self; only the columns left of the split count."""
    made = prepared(project, SLICE, PerturbParams(class_name=CLASS))
    fossils = [i.mask for i in made.instances if i.class_name == CLASS]
    on_fossil = union(fossils, project.slice_shape).to_array()
    weight = np.where(on_fossil, fossil_weight, 1.0).astype(np.float32)
    left = slice(0, split)
    return Pair(made.image[:, left], made.perturbed[:, left], weight[:, left])


def edits(
    project: Project, model: MaskRcnnSegmenter, split: int, steps: int
) -> Iterator[tuple[str, Edit, float]]:
    """Solve in each way; yield its name, the edit and the seconds."""
    ways = {
        f"`adam`, {steps} steps": (1.0, {"solver": "adam", "adam_steps": steps}),
        "`ridge`, all positions alike": (1.0, {"solver": "ridge", "pull": 0.1}),
        "`ridge`, fossils weigh 30": (30.0, {"solver": "ridge", "pull": 0.1}),
        "`direct`, fossils weigh 100": (100.0, {"solver": "direct", "pull": 0.1}),
    }
    for name, (weight, options) in ways.items():
        began = time.monotonic()
        params = SolveParams(pull_to="weights", **options)
        pair = left_pair(project, split, weight)
        if weight == 1:
            pair = Pair(pair.original, pair.perturbed)
        edit = solve(model, [pair], params, pixel_size_um=project.geometry.pixel_size_um).edit
        yield name, edit, time.monotonic() - began


def run(project: Project, name: str, split: int, steps: int) -> list[dict[str, object]]:
    """Print and return one row for each way and strength."""
    model = find_model(project, name).load()
    truth = read_truth(project, SLICE, Region(x0=split))
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
