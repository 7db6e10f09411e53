"""The twin of a detectron2 model beside native detectron2: how far apart, and how fast.

    python benchmarks/detectron2_twin.py --image slice.jpg [--json FILE] [--work FOLDER]
        [--architectures r50,r101,x101] [--classes 2,80] [--edit] [--timed 5] [--threads 2]

Native detectron2 is fetched by ``scripts/native_detectron2.py``. It makes random models that behave
like trained ones (scores well apart), saves them, and runs in a process of its own. Each figure is
printed as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from napari_fossiledit.editing.examples import Example
from napari_fossiledit.editing.level import solve_level
from napari_fossiledit.models.detectron2.read import read_detectron2
from napari_fossiledit.models.detectron2.write import write_detectron2
from napari_fossiledit.models.inference.fast_kernels import fast
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.heads import Limits
from napari_fossiledit.params.editing import SolveParams, Solver
from napari_fossiledit.progress import QUIET

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from native_detectron2 import Native, cache_folder, fetch, most_memory  # noqa: E402

Rgb = NDArray[np.uint8]
WHOLE = (800, 1213)
LEVELS = ("p2", "p3", "p4", "p5", "p6")
TAKE_LEAST = ("least_mask_iou", "detections", "native_detections")


def section(seed: int, shape: tuple[int, int]) -> Rgb:
    """Rings and mud, noisy."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.full((*shape, 3), (120, 90, 80)) + 25 * np.sin(x / 9 + seed)[..., None]
    for _ in range(60):
        distance = np.hypot(y - draw.uniform(0, shape[0]), x - draw.uniform(0, shape[1]))
        image[abs(distance - draw.uniform(8, 60)) < 5] = draw.uniform(60, 240, 3)
    return (image + draw.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)


def photo(path: Path) -> Rgb:
    """Middle of a photograph at the proportions and size of a whole slice."""
    with Pillow.open(path) as opened:
        image = opened.convert("RGB")
    width = min(image.width, int(image.height * WHOLE[1] / WHOLE[0]))
    height = min(image.height, int(width * WHOLE[0] / WHOLE[1]))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    cropped = image.crop((left, top, left + width, top + height))
    return np.asarray(cropped.resize(WHOLE[::-1], Pillow.Resampling.BILINEAR))


def stages(twin: MaskRcnnSegmenter, image: Rgb) -> dict[str, torch.Tensor]:
    """Every stage of the twin for one image, boxes in the image's own pixels."""
    rgb = twin.preprocessing.prepare(image)
    pixels, size = twin.preprocessing.normalise(rgb), (rgb.shape[0], rgb.shape[1])
    with torch.inference_mode():
        maps = twin.network.backbone(pixels)
        proposals, _ = twin.network.rpn(ImageList(pixels, [size]), maps)
        found = twin.network.roi_heads.find(maps, proposals[0], size, Limits(0.0, 100))
    scale = torch.tensor([image.shape[1] / size[1], image.shape[0] / size[0]] * 2)
    named = dict(zip(LEVELS, maps.values(), strict=True))
    return {
        **named,
        "proposals": proposals[0],
        "boxes": found["boxes"] * scale,
        "scores": found["scores"],
        "labels": found["labels"] - 1,
    }


def matched(ours: torch.Tensor, theirs: torch.Tensor, alike: Any = 1) -> torch.Tensor:
    """Nearest of their boxes for each of ours; each of them once, or an error."""
    near = (box_iou(ours, theirs) * alike).argmax(1)
    if len(ours) != len(theirs) or len(set(near.tolist())) != len(theirs):
        raise SystemExit(f"{len(ours)} boxes here, {len(theirs)} in detectron2")
    return near


def differences(twin: MaskRcnnSegmenter, image: Rgb, native: Any) -> dict[str, float]:
    """Largest difference of each stage from native detectron2."""
    found = stages(twin, image)
    proposals, boxes = (torch.from_numpy(native[k]) for k in ("proposals", "boxes"))
    first = matched(found["proposals"], proposals)
    classes = torch.from_numpy(native["classes"])
    near = matched(found["boxes"], boxes, found["labels"][:, None] == classes)
    instances = twin.predict(image)
    return {
        "maps": max(float(np.abs(found[n].numpy() - native[f"map_{n}"]).max()) for n in LEVELS),
        "proposals_px": float((found["proposals"] - proposals[first]).abs().max()),
        "detections": float(len(instances)),
        "native_detections": float(len(boxes)),
        "classes_unequal": float((found["labels"] != classes[near]).sum()),
        "scores": float(np.abs(found["scores"].numpy() - native["scores"][near]).max()),
        "boxes_px": float((found["boxes"] - boxes[near]).abs().max()),
        **masks_compared(instances, native, near.numpy(), image.shape[1]),
    }


def masks_compared(instances: Any, native: Any, near: Any, width: int) -> dict[str, float]:
    """Least IoU of pasted masks with those of native detectron2, and all pixels that differ."""
    masks = np.unpackbits(native["masks"], axis=2, count=width).astype(bool)[near]
    least, pixels, area = 1.0, 0, 0
    for instance, theirs in zip(instances, masks, strict=True):
        ours = instance.mask.to_array()
        least = min(least, float((ours & theirs).sum() / max((ours | theirs).sum(), 1)))
        pixels, area = pixels + int((ours ^ theirs).sum()), area + int(theirs.sum())
    return {
        "least_mask_iou": least,
        "mask_pixels_that_differ": float(pixels),
        "mask_pixels": float(area),
    }


def made(native: Native, work: Path, name: str, images: list[Path]) -> Path:
    """Folder of a model such as ``r101_2``, made natively if it is not there yet."""
    folder = work / name
    if not (folder / "config.yaml").is_file():
        architecture, _, classes = name.partition("_")
        paths = [str(path) for path in images]
        options = {"images": paths, "folder": folder}
        native("create", architecture=architecture, classes=int(classes), **options)
    return folder


def compare(native: Native, work: Path, name: str, images: list[Path]) -> dict[str, float]:
    """Compare a model with its twin on all images: the worst of each figure."""
    folder = made(native, work, name, images)
    native("open", folder=folder)
    twin = read_detectron2(folder / "model_final.pth").segmenter("cpu")
    rows = []
    for path in images:
        out = work / "stages.npz"
        native("stages", image=path, out=out, maps=True)
        with np.load(out) as values:
            rows.append(differences(twin, np.load(path), dict(values)))
        out.unlink()
    return {k: (min if k in TAKE_LEAST else max)(row[k] for row in rows) for k in rows[0]}


def edited(native: Native, folder: Path, work: Path, image: Path) -> dict[str, Any]:
    """Solve one edit from keys and values of either, and take it there and back."""
    pixels = np.load(image)
    muddy = pixels.copy()
    muddy[: len(muddy) // 2] = (150, 60, 50)
    np.save(work / "muddy.npy", muddy)
    twin = read_detectron2(folder / "model_final.pth").segmenter("cpu")
    old, new = twin.capture(pixels), twin.capture(muddy)
    native("open", folder=folder)
    native("capture", image=image, out=work / "old.npz")
    native("capture", image=work / "muddy.npy", out=work / "new.npz")
    rows: dict[str, Any] = {}
    with np.load(work / "old.npz") as before, np.load(work / "new.npz") as after:
        for n, layer, a, b in zip((2, 3, 4, 5), twin.layers().values(), old, new, strict=True):
            ours = solved(layer, a.key, a.value, b.value)
            names = ((before, f"key{n}"), (before, f"value{n}"), (after, f"value{n}"))
            theirs = solved(layer, *(torch.from_numpy(file[name]) for file, name in names))
            difference = float((ours - theirs).abs().max())
            rows[f"p{n}"] = {"difference": difference, "largest": float(ours.abs().max())}
            with torch.no_grad():
                layer.weight.add_(ours)
    return {"delta": rows, "round_trip": round_trip(folder, twin, work)}


def solved(layer: Any, *tensors: torch.Tensor) -> torch.Tensor:
    """Ridge with the program's own solver."""
    key, value, target = (t.contiguous() for t in tensors)
    params = SolveParams(solver=Solver.RIDGE)
    example = Example(key, value, target)
    return solve_level(layer, [example], None, params, QUIET).delta


def round_trip(folder: Path, changed: Segmenter, work: Path) -> dict[str, bool]:
    """Write a model for detectron2 and read it again: whether every weight has the same bits."""
    plain = read_detectron2(folder / "model_final.pth").segmenter("cpu")
    return {name: returned(m, work) for name, m in (("plain", plain), ("edited", changed))}


def returned(model: Segmenter, work: Path) -> bool:
    """Whether a model comes back with the same bits."""
    with tempfile.TemporaryDirectory(dir=work) as name:
        write_detectron2(model, Path(name))
        again = read_detectron2(Path(name, "model_final.pth")).segmenter("cpu")
    before, after = model.weights(), again.weights()
    return before.keys() == after.keys() and all(
        torch.equal(v, after[k]) for k, v in before.items()
    )


def timing(native: Native, folder: Path, image: Path, rounds: int) -> dict[str, Any]:
    """Seconds for one slice, native, twin and fast twin by turns; the median of each.

    The seconds of processors tell more where the machine does other work.
    """
    native("open", folder=folder)
    twin = read_detectron2(folder / "model_final.pth").segmenter("cpu")
    pixels = np.load(image)
    kinds = {"twin": twin, "fast": fast(twin)}
    rows: dict[str, list[tuple[float, float]]] = {"native": [], **{name: [] for name in kinds}}
    for turn in range(rounds + 1):
        answer = native("predict", image=image)
        taken = {"native": (float(answer["seconds"]), float(answer["cpu"]))}
        taken |= {name: timed(model, pixels) for name, model in kinds.items()}
        print(json.dumps(taken), "load", os.getloadavg()[0], flush=True)
        for name, pair in taken.items():
            if turn:  # the first is to warm up
                rows[name].append(pair)
    return {**ratios(rows), "load": os.getloadavg()[0], "fast_masks": agreement(twin, pixels)}


def ratios(rows: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians of wall and processor seconds, and how many times native's throughput they are."""
    median = {name: np.median(np.array(pairs), axis=0).tolist() for name, pairs in rows.items()}
    return {
        "seconds_and_cpu_seconds": rows,
        "median": median,
        "throughput": {name: median["native"][0] / pair[0] for name, pair in median.items()},
        "cpu_throughput": {name: median["native"][1] / pair[1] for name, pair in median.items()},
    }


def timed(model: Segmenter, pixels: Rgb) -> tuple[float, float]:
    """Seconds of wall clock and of all processors for one prediction."""
    start, used = time.perf_counter(), time.process_time()
    model.predict(pixels)
    return time.perf_counter() - start, time.process_time() - used


def agreement(exact: Segmenter, pixels: Rgb) -> float:
    """Least IoU of the masks of the fast engine with the best fitting ones of the exact one."""
    ours = exact.predict(pixels)
    theirs = [i.mask.to_array() for i in fast(exact).predict(pixels)]
    best = []
    for instance in ours:
        mask = instance.mask.to_array()
        best.append(max(float((mask & m).sum() / (mask | m).sum()) for m in theirs))
    return min(best)


def memory(folder: Path, image: Path, kind: str, threads: int) -> int:
    """Most memory of a fresh process that predicts one slice, in bytes."""
    command = [sys.executable, __file__, "--peak", kind, "--work", str(folder)]
    command += ["--image", str(image), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.strip().splitlines()[-1])


def peak(folder: Path, image: Path, kind: str) -> int:
    """Predict once; most memory that this process has held, in bytes."""
    twin = read_detectron2(folder / "model_final.pth").segmenter("cpu")
    if kind == "fast":
        twin = fast(twin)
    twin.predict(np.load(image))
    return most_memory()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="photograph of a slice")
    parser.add_argument("--architectures", default="r50,r101,x101")
    parser.add_argument("--classes", default="2,80")
    parser.add_argument(
        "--edit", action="store_true", help="also an edit and the way there and back"
    )
    parser.add_argument("--timed", type=int, default=0, help="rounds of timing")
    parser.add_argument("--timed-model", default="r101_2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="keep the models here for the next run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    return parser.parse_args()


def pictures(options: argparse.Namespace, work: Path) -> list[Path]:
    """Three images on disk, the whole slice first."""
    sections = [photo(options.image) if options.image else section(2, WHOLE)]
    sections += [section(seed, shape) for seed, shape in ((0, (700, 900)), (1, (600, 500)))]
    images = [work / f"image{i}.npy" for i in range(3)]
    for path, pixels in zip(images, sections, strict=True):
        np.save(path, pixels)
    return images


def run(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All that was asked for."""
    images = pictures(options, work)
    result: dict[str, Any] = {"torch": torch.__version__, "threads": options.threads, "twin": {}}
    folders = ":".join(str(f) for f in fetch(cache_folder()))
    with Native(folders, options.threads) as native:
        for architecture in filter(None, options.architectures.split(",")):
            for classes in filter(None, options.classes.split(",")):
                name = f"{architecture}_{classes}"
                result["twin"][name] = compare(native, work, name, images)
                print(name, json.dumps(result["twin"][name]), flush=True)
        timed = made(native, work, options.timed_model, images)
        if options.edit:
            result["edit"] = edited(native, timed, work, images[2])
            print("edit", json.dumps(result["edit"]), flush=True)
        if options.timed:
            result["speed"] = timing(native, timed, images[0], options.timed)
            print("speed", json.dumps(result["speed"]), flush=True)
    if options.timed:
        result["memory"] = memories(folders, timed, images[0], options.threads)
        print("memory", json.dumps(result["memory"]), flush=True)
    return result


def memories(folders: str, folder: Path, image: Path, threads: int) -> dict[str, int]:
    """Most memory of each in a process of its own, in bytes."""
    with Native(folders, threads) as native:
        native("load", folder=folder)
        found = {"native": int(native("predict", image=image)["rss"])}
    return found | {kind: memory(folder, image, kind, threads) for kind in ("twin", "fast")}


def main() -> None:
    """Compare and time."""
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak(options.work, options.image, options.peak))
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        result = run(options, work)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
