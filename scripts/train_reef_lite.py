"""Make the weights that come with the program: `lite`, trained on six slices of a sample reef.

Six slices, as in the paper. Run it from the repository with the program installed:

    python scripts/train_reef_lite.py [FOLDER]

FOLDER (default: a temporary one) receives the sample reef and the project, and may be looked at
afterwards. The weights go to
src/napari_fossiledit/models/files/weights/reef-lite in half precision.
The training is fixed by its seed and by its number of steps, not by a time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from napari_fossiledit.models.files.places import SHIPPED
from napari_fossiledit.models.files.registry import load_model, read_record, save_model
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.segment import TrainParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job, Progress
from napari_fossiledit.workflows.annotate import files as annotations
from napari_fossiledit.workflows.sample import reef as sample
from napari_fossiledit.workflows.segment import train
from napari_fossiledit.workflows.stack import new

REEF = ReefParams(seed=1, slices=64, size=640)
TRAINING = TrainParams(
    name="reef-lite",
    slices="4,14,24,34,44,54",
    init="imagenet",
    classes=("archaeocyathid",),
    max_steps=250,
    scale=0.6,
    crop=320,
    max_minutes=600,
    seed=0,
    precision="full",
)


def main() -> None:
    """Write the sample, make a project of it, train, and store the weights in half precision."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    reef, project = folder / "reef", folder / "reef.fossil"
    if not (reef / "annotations.json").exists():
        sample.run(reef, REEF, job=Job(tell))
    if not project.exists():
        new.run(
            project, reef / "images", NewParams(pixel_size=72.7, slice_spacing=500), job=Job(tell)
        )
        known = ImportParams(file=reef / "annotations.json")
        annotations.import_annotations(project, known, job=Job(tell))
    made = train.run(project, TRAINING, job=Job(tell))
    record = read_record(made.folder)
    save_model(load_model(made.folder), SHIPPED / "reef-lite", half=True, training=record.training)
    sys.stdout.write(f"{made.summary()}\n")


def tell(progress: Progress) -> None:
    """Print one report in twenty-five, and every judgement."""
    if progress.done % 25 == 0 or "validation" in progress.values:
        figures = {name: round(value, 4) for name, value in progress.values.items()}
        sys.stderr.write(f"{progress.message} {progress.done}/{progress.total} {figures}\n")


if __name__ == "__main__":
    main()
