"""Whether masks can be read: their colours against the rock and against each other.

    python benchmarks/mask_contrast.py PROJECT [PROJECT ...] [--source SOURCE] [--slices 5]

Without a source the last one that the window offers is taken: annotations where there are any.

CIE76 distances of colours as they are seen: fills blended with the photograph, or outlines. Of each
instance, the mean colour of its fill (or its outline) against the rock in a ring around it that no
mask covers; of neighbours (they touch, or have about two radii of rock between them), both fills
over that rock (or both outlines). `napari` is the colours that napari gives to ids, half opaque.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.colormaps import label_colormap
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import deltaE_cie76, rgb2lab

from napari_fossiledit.masks import Instance
from napari_fossiledit.project import Project
from napari_fossiledit.widgets.canvas.palette import (
    COUNT,
    FILL,
    boxes_of,
    choose_indices,
    choose_palette,
    closeness,
    rock_colours,
)
from napari_fossiledit.workflows.shared.sources import shown_sources
from napari_fossiledit.workflows.shared.stack_values import StackValues

Floats = NDArray[Any]
_NAPARI_OPACITY, _RING = 0.5, 0.5


def judged(
    image: Floats, shown: list[Instance], rgb: Floats, opacity: float
) -> tuple[list[float], list[float]]:
    """Return distances of each instance from the rock around it, and of each pair of neighbours."""
    covered = np.zeros(image.shape[:2], dtype=bool)
    for instance in shown:
        covered |= instance.mask.to_array()
    from_rock, around = [], []
    for instance, colour in zip(shown, rgb, strict=True):
        y0, x0, y1, x1 = instance.mask.box
        radius = np.sqrt(instance.mask.area / np.pi)
        margin = max(2, round(_RING * radius))
        box = (
            slice(max(y0 - margin, 0), y1 + margin),
            slice(max(x0 - margin, 0), x1 + margin),
        )
        inside = instance.mask.to_array()[box]
        ring = (ndimage.distance_transform_edt(~inside) <= margin) & ~covered[box]
        if not ring.any():
            ring = ~inside
        rock = np.median(image[box][ring], axis=0) if ring.any() else image.mean(axis=(0, 1))
        under = image[box][inside].mean(axis=0) if opacity < 1 else rock
        seen = opacity * colour + (1 - opacity) * under
        from_rock.append(float(deltaE_cie76(rgb2lab(seen), rgb2lab(rock))))
        around.append(rock)
    pairs = []
    for n, near in enumerate(closeness(*boxes_of(shown))):
        for m in near:
            if m > n:
                both = [opacity * rgb[k] + (1 - opacity) * around[n] for k in (n, m)]
                pairs.append(float(deltaE_cie76(*map(rgb2lab, both))))
    return from_rock, pairs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("projects", nargs="+", type=Path)
    parser.add_argument("--source", default="")
    parser.add_argument("--slices", type=int, default=5)
    parser.add_argument("--score", type=float, default=0.5)
    args = parser.parse_args()
    print("| project | masks | pairs | shown as | >= 30 from the rock | neighbours >= 25 apart |")
    print("|---|---|---|---|---|---|")
    for path in args.projects:
        palette = choose_palette(rock_colours(path))
        cyclic = label_colormap()
        found: dict[str, tuple[list[float], list[float]]] = {}
        with Project.open(path, read_only=True) as project:
            source = args.source or shown_sources(project)[-1]
            black, white = StackValues(project).span
            done = sorted(project.ledger.done(source))
            chosen = {done[round(f * (len(done) - 1))] for f in np.linspace(0, 1, args.slices)}
            for z in sorted(chosen):
                # As the window does: all choose a colour, also those below the score.
                every = [i for i in project.instances(source, z) if i.mask.area]
                near = closeness(*boxes_of(every))
                defaults = [(i.id or 0) % COUNT for i in every]
                indices = choose_indices(near, defaults, range(len(every)))
                image = (np.asarray(project.stack.read(z)) - float(black)) / (white - black)
                image = np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3))
                kept = [n for n, i in enumerate(every) if i.score >= args.score]
                shown = [every[n] for n in kept]
                ours = palette[[indices[n] for n in kept]].reshape(-1, 3)
                ids = np.array([i.id for i in shown], dtype=np.uint32)
                theirs = np.asarray(cyclic.map(ids)).reshape(-1, 4)[:, :3]
                for name, rgb, opacity in (
                    ("napari's colours, half opaque", theirs, _NAPARI_OPACITY),
                    ("fills", ours, FILL),
                    ("outlines", ours, 1.0),
                ):
                    both = found.setdefault(name, ([], []))
                    for listed, new in zip(both, judged(image, shown, rgb, opacity), strict=True):
                        listed.extend(new)
        for name, (rock, pairs) in found.items():
            shares = [100 * np.mean(np.array(d) >= at) for d, at in ((rock, 30), (pairs, 25))]
            figures = " | ".join(f"{share:.0f} %" for share in shares)
            print(f"| {path.stem} | {len(rock)} | {len(pairs)} | {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
