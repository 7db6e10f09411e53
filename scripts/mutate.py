"""Open damaged files of every kind: each ends in a value or in a `FossilError`, within seconds.

    python scripts/mutate.py [--cases 1000] [--seed 0] [KIND ...]

A case is named by its kind and its number, and is the same whenever it is run: numbers are
seeds. Anything but a value or a `FossilError`, and whatever takes too long, is printed; the exit
code then is 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pickle
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import tifffile
import torch
import zarr
from PIL import Image
from scipy.io import savemat

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.models.detectron2.write import write_detectron2
from napari_fossiledit.models.files.registry import save_model
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.params.annotations import (
    ExportParams,
    FillParams,
    ImportParams,
)
from napari_fossiledit.params.reconstruct import LinkParams, MeshParams
from napari_fossiledit.params.review import HistoryParams, QueueParams
from napari_fossiledit.params.segment import Device, ImportModelParams
from napari_fossiledit.params.stack import ConvertParams, NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.stacks import find_warnings, open_stack
from napari_fossiledit.workflows.annotate import corrections, files
from napari_fossiledit.workflows.edit import decide
from napari_fossiledit.workflows.reef import link, measure
from napari_fossiledit.workflows.review import journal, queue
from napari_fossiledit.workflows.segment import model_files
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.stack import convert, info, new

LIMIT_S = 20
SHAPE = (3, 40, 48)
_PREDICTED = "model:m:0123456789ab"
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 255, SHAPE).astype(np.uint8)
RGB = RANDOM.integers(0, 255, (*SHAPE[1:], 3)).astype(np.uint8)
LABELS = np.zeros(SHAPE, np.uint16)
LABELS[:, 5:20, 5:20] = 1
LABELS[:, 25:35, 8:40] = 2
#: What stands in JSON, a database or a header in the place of what should be there.
WRONG = (
    *(None, True, 0, -1, 2**31, 2**70, 1.5, 1e308, float("nan"), "", "x", "../../x", "a\0b"),
    *("x" * 3000, [], {}, [[]], [None], {"a": 1}, [1e9] * 3),
)


class Hang(BaseException):
    """A case took too long; no `Exception`, so that no library takes it for one of its own."""


# ------------------------------------------------------------------- what is opened


def stack(path: Path) -> None:
    """Open photographs and read all of them."""
    opened = open_stack(path)
    find_warnings(opened)
    opened.suggested_geometry()
    for z in range(len(opened)):
        opened.read(z)
    opened.close()


def annotations(path: Path) -> None:
    """Import a file into the project beside it."""
    project = path.parent / "p.fossil"
    files.import_annotations(project, ImportParams(file=path))
    info.run(project)


def project(path: Path) -> None:
    """Do to a project all that takes no network; each step that is refused lets the next one on."""
    folder = path / "p.fossil"
    steps: list[Callable[[], object]] = [
        partial(info.run, folder),
        partial(files.export_annotations, folder, ExportParams(file=path / "out.json")),
        partial(link.run, folder, LinkParams(relink=True)),
        partial(measure.run, folder, path / "out.csv", MeshParams()),
        partial(corrections.fill, folder, FillParams(source=_PREDICTED, mask_cut=0.7)),
        partial(journal.history, folder, HistoryParams()),
        partial(queue.build, folder, QueueParams()),
        partial(journal.undo, folder),
        partial(model_files.list_models, folder),
        partial(decide.listing, folder),
        partial(decide.show, folder, "e"),
        partial(convert.run, folder, ConvertParams()),
    ]
    refused = [error for step in steps if (error := refusal(step)) is not None]
    if refused:
        raise refused[0]


def refusal(step: Callable[[], object]) -> FossilError | None:
    """Call a step; return how it was refused."""
    try:
        step()
    except FossilError as error:
        return error
    return None


def model(path: Path, name: str = "m") -> None:
    """Load a model or an edit of a project and use it once."""
    with Project.open(path / "p.fossil") as opened:
        segmenter = find_model(opened, name).load(Device.CPU)
        segmenter.predict(RGB)


def edit(path: Path) -> None:
    """Look at an edit, and load the model with it."""
    project(path)
    model(path, "e")


def checkpoint(path: Path) -> None:
    """Import a model of detectron2."""
    folder = path.parent.parent / "p.fossil"
    model_files.import_model(folder, path, ImportModelParams(name="new"))


# ------------------------------------------------------------------------ the kinds


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    file
        What is damaged, below the folder that `make` fills.
    opened
        What is handed to `use`, below the same folder.
    weight
        How often it is tried: the slow ones more seldom.
    """

    file: str
    opened: str
    use: Callable[[Path], None]
    weight: int = 4


KINDS = {
    "png": Kind("photos/1.png", "photos", stack),
    "jpeg": Kind("a.jpg", "a.jpg", stack),
    "tiff": Kind("plain.tif", "plain.tif", stack),
    "tiff-deflate": Kind("deflate.tif", "deflate.tif", stack),
    "tiff-tiled": Kind("tiled.tif", "tiled.tif", stack),
    "tiff-imagej": Kind("imagej.tif", "imagej.tif", stack),
    "tiff-ome": Kind("ome.tif", "ome.tif", stack),
    "tiff-jpeg": Kind("jpeg.tif", "jpeg.tif", stack),
    "tiff-16": Kind("deep.tif", "deep.tif", stack),
    "zarr-group": Kind("a.zarr/zarr.json", "a.zarr", stack),
    "zarr-array": Kind("a.zarr/0/zarr.json", "a.zarr", stack),
    "zarr-chunk": Kind("a.zarr/0/c/1/0/0", "a.zarr", stack),
    "zarr2-attributes": Kind("b.zarr/.zattrs", "b.zarr", stack),
    "zarr2-array": Kind("b.zarr/0/.zarray", "b.zarr", stack),
    "zarr-zip": Kind("a.zip", "a.zip", stack),
    "coco": Kind("coco.json", "coco.json", annotations, 8),
    "label-tiff": Kind("labels.tif", "labels.tif", annotations),
    "label-png": Kind("labels/1.png", "labels", annotations),
    "outlines-mat": Kind("outlines.mat", "outlines.mat", annotations, 2),
    "project-json": Kind("p.fossil/project.json", "", project, 8),
    "ledger": Kind("p.fossil/ledger.sqlite", "", project, 12),
    "converted": Kind("p.fossil/images.zarr/zarr.json", "", project),
    "model-json": Kind("p.fossil/models/m/model.json", "", model, 4),
    "weights": Kind("p.fossil/models/m/weights.safetensors", "", model, 2),
    "edit-json": Kind("p.fossil/edits/e/edit.json", "", edit, 4),
    "delta": Kind("p.fossil/edits/e/delta.safetensors", "", edit, 2),
    "pth": Kind("d2/model_final.pth", "d2/model_final.pth", checkpoint, 2),
    "pkl": Kind("zoo/model.pkl", "zoo/model.pkl", checkpoint, 2),
    "yaml": Kind("d2/config.yaml", "d2/model_final.pth", checkpoint, 2),
}


def make(home: Path) -> None:
    """Write a sound file of each kind."""
    for folder in ("photos", "labels"):
        (home / folder).mkdir(parents=True)
    for z in range(SHAPE[0]):
        Image.fromarray(RGB).save(home / "photos" / f"{z}.png", dpi=(300, 300))
        Image.fromarray(LABELS[z]).save(home / "labels" / f"{z}.png")
    Image.fromarray(RGB).save(home / "a.jpg")
    grey: dict[str, Any] = {"data": GREY, "photometric": "minisblack"}
    ome = {"axes": "ZYX", "PhysicalSizeX": 2.0}
    for name, options in {
        "plain": grey,
        "deflate": grey | {"compression": "zlib"},
        "tiled": grey | {"tile": (16, 16)},
        "imagej": {"data": GREY, "imagej": True, "metadata": {"axes": "ZYX", "unit": "um"}},
        "ome": grey | {"ome": True, "metadata": ome},
        "jpeg": {"data": RGB, "compression": "jpeg"},
        "deep": {"data": GREY.astype(np.uint16) * 9, "photometric": "minisblack"},
        "labels": {"data": LABELS, "photometric": "minisblack"},
    }.items():
        tifffile.imwrite(home / f"{name}.tif", **options)
    _make_zarrs(home)
    square = np.array([[5, 5], [20, 5], [20, 20], [5, 20]], float)
    slices, individuals = np.empty((1, SHAPE[0]), object), np.empty((1, 1), object)
    for z in range(SHAPE[0]):
        slices[0, z] = np.column_stack([square + z, np.ones(4)])
    individuals[0, 0] = slices
    savemat(home / "outlines.mat", {"outers": individuals})
    path = home / "p.fossil"
    new.run(path, home / "photos", NewParams(pixel_size=10, slice_spacing=10))
    files.import_annotations(path, ImportParams(file=home / "labels.tif"))
    files.export_annotations(path, ExportParams(file=home / "coco.json"))
    link.run(path, LinkParams())
    kept = ProbabilityMask((Piece((5, 5, 20, 20), np.full((28, 28), 200, np.uint8)),))
    with Project.open(path) as opened:
        found = Instance(0, "a", kept.cut(0.5, SHAPE[1:]), probability=kept)
        opened.ledger.store(_PREDICTED, 0, [found])
    convert.run(path, ConvertParams(use=False))
    _make_models(home)


def _make_zarrs(home: Path) -> None:
    multiscale = {
        "axes": [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"],
        "datasets": [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [5, 2, 2]}]}
        ],
    }
    group = zarr.open_group(home / "a.zarr", mode="w")
    group.create_array("0", data=GREY, chunks=(1, *SHAPE[1:]))
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    old = zarr.open_group(home / "b.zarr", mode="w", zarr_format=2)
    old.create_array("0", data=GREY, chunks=(1, *SHAPE[1:]))
    old.attrs["multiscales"] = [{"version": "0.4", **multiscale}]
    with zipfile.ZipFile(home / "a.zip", "w") as archive:
        for file in sorted(f for f in (home / "a.zarr").rglob("*") if f.is_file()):
            archive.write(file, file.relative_to(home / "a.zarr").as_posix())


def _make_models(home: Path) -> None:
    torch.manual_seed(0)
    narrow = {"channels": 16, "box_width": 32, "mask_channels": 16}
    spec = default_spec("lite", ("archaeocyathid",)).model_copy(update=narrow)
    save_model(MaskRcnnSegmenter(MaskRcnn(spec), Preprocessing()), home / "p.fossil/models/m")
    with Project.open(home / "p.fossil") as opened:
        ref = find_model(opened, "m")
        layers = ref.load(Device.CPU).layers()
        deltas = {name: torch.full_like(layer.weight, 1e-3) for name, layer in layers.items()}
        decide.save_edit(opened, ref, Edit(deltas), "e", {})
    torch.manual_seed(0)
    full = MaskRcnnSegmenter(MaskRcnn(default_spec("r50", ("archaeocyathid",))), Preprocessing())
    write_detectron2(full, home / "d2")
    file = home / "d2" / "model_final.pth"
    content = torch.load(file, weights_only=True)
    # The head of the file is what is read before anything is refused; 170 MB are slow to damage.
    small = {n: v for n, v in content["model"].items() if v.numel() < 5000}
    torch.save(content | {"model": small}, file)
    (home / "zoo").mkdir()
    arrays = {name: value.numpy() for name, value in small.items()}
    with (home / "zoo" / "model.pkl").open("wb") as stream:
        pickle.dump({"model": arrays, "__author__": "zoo"}, stream, protocol=2)


# -------------------------------------------------------------------- the mutations


def mutate(path: Path, rng: random.Random) -> None:
    """Damage a file, by its content where that is known, else by its bytes."""
    data = path.read_bytes()
    if path.suffix == ".sqlite" and rng.random() < 0.6:
        _wrong_value_in_table(path, rng)
        return
    content = None
    if rng.random() < 0.7:
        with suppress(ValueError):
            content = json.loads(data)
    if isinstance(content, dict | list) and content:
        _wrong_value(content, rng)
        path.write_text(json.dumps(content))
    else:
        path.write_bytes(damaged(data, rng))


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip bits, cut off, take out, overwrite or double a part; mostly near the head."""
    changed = bytearray(data)
    near = rng.choice([min(len(data), 400), len(data)])
    place = rng.randrange(near)
    match rng.randrange(6):
        case 0:
            return data[:place]
        case 1:
            del changed[place : place + rng.randint(1, 30)]
        case 2:
            for _ in range(rng.randint(1, 3)):
                changed[rng.randrange(near)] ^= 1 << rng.randrange(8)
        case 3:
            for _ in range(4):
                changed[rng.randrange(near)] = rng.choice([0, 1, 127, 128, 255])
        case 4:
            part = changed[place : place + rng.randint(1, 200)]
            changed[place:place] = part
        case _:
            changed[place : place + 8] = rng.choice([b"\0" * 8, b"\xff" * 8, b"\x80" + b"\0" * 7])
    return bytes(changed)


def _wrong_value(content: Any, rng: random.Random) -> None:
    """Take out or replace a value somewhere in nested lists and objects."""
    parents = [content]
    for parent in parents:
        values = parent.values() if isinstance(parent, dict) else parent
        parents += [value for value in values if isinstance(value, dict | list) and value]
    parent = rng.choice(parents)
    keys = list(parent) if isinstance(parent, dict) else range(len(parent))
    key = rng.choice(list(keys))
    if rng.random() < 0.3:
        del parent[key]
    else:
        parent[key] = rng.choice(WRONG)


def _wrong_value_in_table(path: Path, rng: random.Random) -> None:
    """Write a wrong value into one row of a database, as SQLite allows in most columns."""
    db = sqlite3.connect(path, isolation_level=None)
    tables = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    table = rng.choice(["instances", "instances", *tables])
    column = rng.choice([c[1] for c in db.execute(f"PRAGMA table_info({table})")] or ["rowid"])
    value = rng.choice([None, -1, 2**62, 1e300, float("inf"), "", "x" * 50, b"", b"\xff\0x", "[{"])
    with suppress(sqlite3.Error):
        # Each a statement of its own: what a constraint forbids cannot happen.
        if rng.random() < 0.1:
            db.execute(f"DROP TABLE {table}")
        else:
            db.execute(f"UPDATE {table} SET {column} = ? WHERE abs(random()) % 2 = 0", (value,))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


# ------------------------------------------------------------------------- the cases


@contextmanager
def limited() -> Iterator[None]:
    """Raise `Hang` inside where the block takes too long."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def copied(source: str, target: str) -> None:
    """Copy a file that is written in place, and link one that is not."""
    if ".sqlite" in source:
        shutil.copyfile(source, target)
    else:
        os.link(source, target)


def tried(kind: Kind, home: Path, seed: str) -> str:
    """Damage a file of a kind and open it; return what went wrong, empty where nothing did."""
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        folder = Path(scratch) / "home"
        shutil.copytree(home, folder, copy_function=copied)
        file = folder / kind.file
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data)
        mutate(file, random.Random(zlib.crc32(seed.encode())))
        try:
            with limited(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kind.use(folder / kind.opened)
        except FossilError as error:
            return "" if error.message.strip() else f"no message: {error!r}"
        except Hang:
            return "hangs"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            steps = [
                f for f in traceback.extract_tb(error.__traceback__) if "napari_f" in f.filename
            ]
            where = f"{Path(steps[-1].filename).name}:{steps[-1].lineno}" if steps else "?"
            return f"{type(error).__name__} at {where}: {error}"
    return ""


def cases(count: int, names: list[str]) -> list[tuple[str, int]]:
    """Return kind and number of each case, kinds mixed, the heavier ones more often."""
    chosen = {n: k for n, k in KINDS.items() if n in names or not names}
    total = sum(k.weight for k in chosen.values())
    return [
        (name, number)
        for name, kind in chosen.items()
        for number in range(max(1, round(count * kind.weight / total)))
    ]


def attack(count: int, names: list[str], seed: int = 0) -> list[str]:
    """Try damaged files; return what went wrong."""
    wrong = []
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="mutate-") as scratch:
            home = Path(scratch) / "sound"
            make(home)
            for name, number in cases(count, names):
                # Where the process dies: which case it was.
                sys.stderr.write(f"\r{name} {number}   ") if sys.stderr.isatty() else None
                problem = tried(KINDS[name], home, f"{seed}-{name}-{number}")
                wrong += [f"{name} {number}: {problem}"] if problem else []
    finally:
        logging.disable(logging.NOTSET)
    return wrong


def main() -> None:
    """Parse the command line, try, and print what went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="KIND", help="; ".join(KINDS))
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.monotonic()
    wrong = attack(args.cases, args.names, args.seed)
    print("\n".join(wrong) or "every damaged file was read, or refused in words")
    print(f"{args.cases} cases in {time.monotonic() - began:.0f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
