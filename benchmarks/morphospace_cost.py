"""What is done with many points, and what it costs.

    python benchmarks/morphospace_cost.py [--items 5000] [--embed]

Points are twelve clouds in 1280 dimensions, five to a specimen, every second one with a name.
--embed makes them with the frozen `lite` of as many pictures of rings in mud instead. Each line has
the seconds of the clock, those of the processor, and the most memory that was held until then.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from napari_fossiledit.morphospace.embedding import Embedding, Item
from napari_fossiledit.params.morphospace import (
    ClassifyParams,
    ClusterParams,
    DisparityParams,
    Grouping,
    MapParams,
    Method,
    OutlierParams,
    Projection,
    SectionsParams,
    SimilarParams,
)
from napari_fossiledit.workflows.morphospace import alike, lay_out, sort
from napari_fossiledit.workflows.morphospace.points import results_folder

KINDS, DIMENSIONS, EDGE = 12, 1280, 96


def draw_points(source: Path, count: int) -> None:
    """Write an embedding of as many empty pictures."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(KINDS, size=count)
    centres = rng.normal(size=(KINDS, DIMENSIONS))
    vectors = centres[kinds] + 1.5 * rng.normal(size=(count, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    source.mkdir()
    items = []
    for n, kind in enumerate(kinds):
        (source / f"{n}.png").touch()
        name = f"kind {kind}" if n % 2 else None
        items.append(Item(f"{n}.png", f"specimen {n // 5}", name, slice=n // 10))
    points = Embedding(vectors.astype(np.float32), tuple(items), "clouds", "0" * 64)
    points.save(results_folder(source) / "embedding.npz")


def embed_rings(source: Path, count: int) -> None:
    """Write pictures, every second one in the folder of its kind, and embed them."""
    from napari_fossiledit.params.morphospace import EmbedParams
    from napari_fossiledit.workflows.morphospace import train

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:EDGE, :EDGE] - EDGE / 2
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    for n in range(count):
        kind = int(rng.integers(KINDS))
        wavy = 1 + 0.03 * (kind % 4) * np.cos((3 + kind) * (angle + rng.uniform(0, 6)))
        edge = 30 * rng.uniform(0.7, 1.3) * wavy
        wall = (radius < edge) & (radius > edge * (0.4 + 0.04 * kind))
        grain = rng.normal(size=(EDGE, EDGE, 1)) * (6 + 4 * (kind % 3))
        colour = np.where(wall[..., None], [200, 190, 175], [120, 70, 50]) + grain
        file = source / (f"kind {kind}" if n % 2 else "") / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colour.clip(0, 255).astype(np.uint8)).save(file)
    # As sections of a project.
    params = EmbedParams(edge=train.SECTION_EDGE)
    timed("embed", lambda: train.embed(source, params))


def timed(what: str, call: Callable[[], Any]) -> None:
    """Call and print what it cost."""
    clock, processor = time.perf_counter(), time.process_time()
    call()
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    spent = time.perf_counter() - clock, time.process_time() - processor
    print(f"| {what} | {spent[0]:.1f} | {spent[1]:.1f} | {held:.2f} |", flush=True)


def main() -> None:
    """Run all steps on one folder of pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--embed", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "pictures"
        print("| step | s | processor s | GB |\n|---|---|---|---|")
        (embed_rings if options.embed else draw_points)(source, options.items)
        timed("map, t-SNE", lambda: lay_out.lay_out(source, MapParams()))
        pca = MapParams(method=Projection.PCA)
        timed("map, principal components", lambda: lay_out.lay_out(source, pca))
        for method in Method:
            params = ClassifyParams(method=method)
            timed(f"classify, {method}", lambda params=params: sort.classify(source, params))
        for grouping in Grouping:
            groups = ClusterParams(method=grouping)
            timed(f"cluster, {grouping}", lambda groups=groups: sort.cluster(source, groups))
        timed("similar", lambda: alike.similar(source, SimilarParams(items="0.png")))
        timed("outliers", lambda: alike.outliers(source, OutlierParams()))
        if not options.embed:
            timed("sections", lambda: alike.sections(source, SectionsParams()))
        timed("disparity", lambda: lay_out.disparity(source, DisparityParams()))


if __name__ == "__main__":
    main()
