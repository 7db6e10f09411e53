"""Image files with a few wrong bytes: read, or refused with a word, and never anything else."""

from __future__ import annotations

import logging
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.label_images import LabelImages
from napari_fossiledit.exchange.tracings.tracing_file import Target
from napari_fossiledit.stacks import find_warnings, open_stack

SHAPE = (12, 18)
GREY = np.random.default_rng(0).integers(0, 9, (3, *SHAPE)).astype(np.uint8)
RGB = np.random.default_rng(1).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
KINDS = ["plain", "deflate", "tiled", "imagej", "ome", "jpeg", "palette", "png", "jpg", "zip"]


def write(path: Path, kind: str) -> Path:
    """A file of one kind, or a zarr zipped."""
    grey = {"data": GREY, "photometric": "minisblack"}
    palette = {"photometric": "palette", "colormap": np.eye(3, 256, dtype=np.uint16)}
    options = {
        "plain": grey,
        "deflate": grey | {"compression": "zlib"},
        "tiled": grey | {"tile": (16, 16)},
        "imagej": {"data": GREY, "imagej": True, "metadata": {"axes": "ZYX", "unit": "um"}},
        "ome": grey | {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 2.0}},
        "jpeg": {"data": RGB, "compression": "jpeg"},
        "palette": {"data": GREY[0], **palette},
    }
    if kind in options:
        tifffile.imwrite(path / "a.tif", **options[kind])
        return path / "a.tif"
    if kind == "zip":
        group = zarr.open_group(path / "z", mode="w")
        group.create_array("0", data=GREY, chunks=(1, *SHAPE))
        image = {"axes": list("zyx"), "datasets": [{"path": "0"}]}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
        with zipfile.ZipFile(path / "a.zip", "w") as archive:
            for file in (path / "z").rglob("*"):
                archive.write(file, file.relative_to(path / "z").as_posix())
        return path / "a.zip"
    Image.fromarray(RGB).save(path / f"a.{kind}", dpi=(300, 300))
    return path / f"a.{kind}"


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, overwrite or take out a few bytes, mostly at the head."""
    changed, place = bytearray(data), int(rng.integers(0, len(data)))
    match rng.integers(0, 4):
        case 0:
            return data[:place]
        case 1:
            del changed[place : place + int(rng.integers(1, 20))]
        case 2:
            changed[place] = int(rng.integers(0, 256))
        case _:
            for n in rng.integers(0, min(300, len(data)), 3):
                changed[n] = int(rng.choice([0, 1, 128, 255]))
    return bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_bytes_end_in_pixels_or_in_words(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    path = write(tmp_path, kind)
    data, rng = path.read_bytes(), np.random.default_rng(KINDS.index(kind))
    refused = 0
    for _ in range(20):
        path.write_bytes(mutated(data, rng))
        try:
            stack = open_stack(path)
            find_warnings(stack)
            stack.suggested_geometry()
            for z in range(len(stack)):
                stack.read(z)
            stack.close()
        except FossilError:
            refused += 1
        with suppress(FossilError):
            list(LabelImages(path, Target(("a", "b", "c"), SHAPE), "shell").traced_slices())
    assert refused > 0
