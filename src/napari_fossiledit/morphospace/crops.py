"""Pictures of specimens, all of one size: cut out of slices by their masks, or read from files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.masks import Mask
from napari_fossiledit.morphospace.embedding import Item
from napari_fossiledit.stacks.decode import read_image
from napari_fossiledit.stacks.listing import SUFFIXES

Picture = NDArray[np.uint8]

EDGE = 320
"""Edge in pixels to which pictures are brought: 32 steps of a 10 x 10 map of the last stage."""

_MARGIN = 0.04
"""Share of the longer edge left around a mask, so that its outline is seen."""

IMAGENET_MEAN = (124, 116, 104)


def squared(
    picture: NDArray[Any], fill: Sequence[float] | NDArray[np.floating[Any]], edge: int = EDGE
) -> Picture:
    """Return a picture (y, x[, 3]) of 8 bit, padded to a square with `fill` and scaled.

    The ratio of height to width is kept.
    """
    from PIL import Image

    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    height, width = colour.shape[:2]
    side = max(height, width)
    padded = np.empty((side, side, 3), np.uint8)
    padded[:] = np.asarray(fill, np.float64).round().astype(np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    padded[top : top + height, left : left + width] = colour
    return np.asarray(Image.fromarray(padded).resize((edge, edge), Image.Resampling.BICUBIC))


def cut_out(image: NDArray[Any], mask: Mask, *, own_mean: bool, edge: int = EDGE) -> Picture:
    """Return what is inside a mask of a slice (y, x[, 3]) of 8 bit; all around it is filled.

    Parameters
    ----------
    own_mean
        Fill with the mean colour inside the mask; else with the mean colour of ImageNet.
    """
    y0, x0, y1, x1 = mask.box
    inside = mask.crop()
    piece = image[y0:y1, x0:x1]
    piece = piece if piece.ndim == 3 else np.repeat(piece[..., None], 3, axis=2)
    fill = piece[inside].mean(axis=0) if own_mean else np.array(IMAGENET_MEAN)
    around = round(_MARGIN * max(inside.shape))
    filled = np.where(inside[..., None], piece, fill.round().astype(np.uint8))
    padding = ((around, around), (around, around))
    framed = [np.pad(filled[..., c], padding, constant_values=round(fill[c])) for c in range(3)]
    return squared(np.stack(framed, axis=2).astype(np.uint8), fill, edge)


def in_8_bit(image: NDArray[Any], limits: tuple[float, float] | None = None) -> Picture:
    """Return an image in 8 bit; of more bits the range between `limits` is shown.

    Limits left out are the 0.1 and 99.9 percentiles.
    """
    if image.dtype == np.uint8:
        return image
    low, high = limits or tuple(np.percentile(image, (0.1, 99.9)))
    scaled = (image.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.asarray((scaled.clip(0, 1) * 255).round(), np.uint8)


@dataclass(frozen=True)
class PictureFolder:
    """Pictures of a folder; a sub-folder is the name of what is in it.

    Attributes
    ----------
    items
        One for each picture that can be read, each a group by itself.
    notes
        What was left out, in sentences.
    """

    folder: Path
    items: tuple[Item, ...]
    notes: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path) -> PictureFolder:
        """List the pictures of a folder and of its sub-folders.

        Raises
        ------
        FossilError
            Where there is no picture that can be read.
        """
        with explained(folder, "Looking at"):
            files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        items, unreadable = [], []
        for file in files:
            key = file.relative_to(folder).as_posix()
            try:
                data = read_image(file)
            except FossilError:
                unreadable.append(key)
                continue
            name = key.split("/")[0] if "/" in key else None
            items.append(Item(key, key, name, content=content_of_picture(data)))
        if not items:
            raise FossilError(
                f"{folder} holds no picture that can be read",
                expected="PNG, JPEG or TIFF files, in a sub-folder for each name",
                found=f"{len(unreadable)} that cannot be read" if unreadable else "none",
            )
        said = f"Left out because they cannot be read: {_listed(unreadable)}."
        return cls(folder, tuple(items), (said,) if unreadable else ())

    def pictures(self, edge: int = EDGE) -> Iterator[Picture]:
        """Read the pictures in the order of the items; what is missing to a square is mirrored."""
        for item in self.items:
            image = in_8_bit(read_image(self.folder / item.key))
            # Median of the rim: most pictures of single specimens lie on a plain ground.
            rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
            fill = np.broadcast_to(np.median(rim, axis=0), (3,))
            yield squared(image, fill, edge)


def content_of_picture(pixels: NDArray[Any]) -> str:
    """Return a digest of pixels, for pictures what `content_of` is for masks."""
    made = hashlib.blake2b(pixels.tobytes(), digest_size=8, key=repr(pixels.shape).encode())
    return made.hexdigest()


def _listed(names: Sequence[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
