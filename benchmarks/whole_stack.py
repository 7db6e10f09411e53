"""What a run over a whole stack survives, and what more processes gain.

    python benchmarks/whole_stack.py kills [MOMENTS [PROJECT MODEL]]
    python benchmarks/whole_stack.py workers PROJECT MODEL [SLICES [ROUNDS]]

``kills``: 100 slices of 64 x 64 pixels are handled by two processes (a threshold, and 50 ms of
waiting for a network) and stored in the ledger of a project. In each run a process is ended by
SIGKILL when a random number of slices is done, from none to nearly all, and up to 50 ms more have
passed: a worker, or in turn the driver, which is then started again. What the ledger holds in the
end is compared with a run that was left alone. With a project and a model of its own the command
``fossiledit predict`` does so in place of the stand-in, on copies of the project: in turn a worker
of ``--workers 2`` is ended, the command itself, and the command without workers.

``workers``: a model of the project predicts so many slices, from the first on and again, in one
process and in two, a computing thread each, in turn; nothing is stored. Slices a second are those
between the first and the last result; the whole run has the start of the processes in it.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from napari_fossiledit.jobs import Spread, spread
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.segment import Engine, PredictParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.model_refs import find_model, prediction_source
from napari_fossiledit.workflows.stack import new

SLICES, WAIT_S = 100, 0.05
SOURCE = "model:stand-in:0123456789ab"
TWO = Spread(2)


def stand_in(path: Path) -> Callable[[int], list[Instance]]:
    """Make what finds the bright pixels of a slice, and waits as for a network."""
    project = Project.open(path, read_only=True)

    def handle(z: int) -> list[Instance]:
        time.sleep(WAIT_S)
        bright = np.asarray(project.stack.read(z))[..., 0] > 128
        return [Instance(z, "archaeocyathid", Mask.from_array(bright), score=0.5)]

    return handle


def drive(path: Path) -> None:
    """Handle what is left to do, as a command would."""
    with Project.open(path) as project:
        left = sorted(set(range(SLICES)) - project.ledger.done(SOURCE))
        for outcome in spread(stand_in, (path,), left, how=TWO):
            if outcome.error is None:
                project.ledger.store(SOURCE, outcome.item, outcome.result())
            else:
                project.ledger.note_failed(SOURCE, outcome.item, str(outcome.error))


def state(path: Path, source: str) -> tuple[str, NDArray[np.float64]]:
    """Return a digest of what the ledger says of the slices, and the scores in the same order."""
    digest, scores = hashlib.sha256(), []
    with Project.open(path, read_only=True) as project:
        done, made_from = project.ledger.done(source), project.ledger.contents.made_from(source)
        for known in (sorted(done), sorted(made_from.items()), project.ledger.failed(source)):
            digest.update(repr(known).encode())
        for z in sorted(done):
            # Scores of two processes differ by 1e-7, and the order of masks with them.
            for i in sorted(project.instances(source, z), key=lambda i: (repr(i.mask), i.score)):
                digest.update(repr((z, i.class_name, i.mask)).encode())
                scores.append(i.score)
    with sqlite3.connect(path / "ledger.sqlite") as ledger:
        digest.update(repr(ledger.execute("PRAGMA integrity_check").fetchall()).encode())
    return digest.hexdigest(), np.array(scores)


def photographed(home: Path) -> Path:
    """Make a project of noise."""
    rng = np.random.default_rng(0)
    (home / "images").mkdir()
    for z in range(SLICES):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / "images" / f"{z:04d}.png")
    voxel = NewParams(pixel_size=72.7, slice_spacing=500)
    new.run(home / "fresh.fossil", home / "images", voxel)
    return home / "fresh.fossil"


def end_one(process: subprocess.Popen[bytes], how: str) -> int:
    """End a worker of a process, or the process itself; return how many workers it leaves."""
    workers = psutil.Process(process.pid).children()
    if how == "worker":
        while not workers and process.poll() is None:
            time.sleep(0.01)
            workers = psutil.Process(process.pid).children()
        if workers:
            random.choice(workers).kill()
        return 0
    process.kill()
    process.wait()
    return len(psutil.wait_procs(workers, timeout=2)[1])


def kills(moments: int, given: Path | None = None, model: str = "") -> None:
    """End a process at random moments, and compare what is left in the end."""
    home = Path(tempfile.mkdtemp(prefix="fossiledit-kills-"))
    hows = ("worker", "driver", "alone")[: 3 if model else 2]
    given = photographed(home) if given is None else given
    path, source, rand = home / "p.fossil", SOURCE, random.Random(18)
    with Project.open(given, read_only=True) as project:
        photographs, slices = project.photos.path, project.shape[0]
        if model:
            ref = find_model(project, model)
            source = str(prediction_source(ref, ref.model_hash, PredictParams(), range(slices)))

    def begin(how: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "drive", str(path)]
        if model:
            command[1:3] = ["-c", "from napari_fossiledit.cli import main; main()", "predict"]
            command += ["--model", model, "--workers", "0" if how == "alone" else "2"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def afresh() -> None:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(given, path)
        new.move_stack(path, photographs)

    afresh()
    began = time.monotonic()
    begin("worker").wait(300)
    whole, (wanted, scores) = time.monotonic() - began, state(path, source)
    print(f"left alone: {whole:.1f} s; {len(scores)} masks; load {os.getloadavg()[0]:.1f}")
    table: dict[str, list[tuple[int, bool, int, float]]] = {how: [] for how in hows}
    for n in range(moments):
        afresh()
        how, moment = hows[n % len(hows)], rand.randrange(-slices // 6, slices)
        began, process, left = time.monotonic(), begin(how), 0
        with Project.open(path, read_only=True) as project:
            while len(project.ledger.done(source)) < moment and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rand.uniform(0, whole / slices if moment > 0 else whole / 2))
            then = len(project.ledger.done(source))
        if ended := process.poll() is None:
            left = end_one(process, how)
            process = process if process.poll() is None else begin(how)
        code, seconds = process.wait(300), time.monotonic() - began
        found, near = state(path, source)
        same = code == 0 and found == wanted and bool(np.allclose(near, scores, rtol=0, atol=1e-6))
        if ended:
            table[how].append((then, same, left, seconds))
        if not same:
            print(f"{how}, ended with {then} slices done: exit code {code}, another result")
    for how, rows in filter(lambda kept: kept[1], table.items()):
        done, alike, orphans, took = zip(*rows, strict=True)
        print(f"{how}: ended {len(rows)} times, with so many slices done: {sorted(done)}")
        print(f"  in the end as left alone: {sum(alike)}; workers left after 2 s: {sum(orphans)}")
        print(f"  seconds of a run: median {np.median(took):.1f}, most {max(took):.1f}")
    shutil.rmtree(home)


def network(path: Path, model: str) -> Callable[[int], int]:
    """Make what predicts a slice of a project and counts the instances."""
    import torch

    from napari_fossiledit.workflows.segment.predict import load_segmenter

    torch.set_num_threads(1)
    project = Project.open(path, read_only=True)
    segmenter = load_segmenter(find_model(project, model), PredictParams(engine=Engine.EXACT))
    lock = threading.Lock()

    def handle(item: int) -> int:
        z = item % project.shape[0]
        image, size = project.stack.read(z), project.geometry.pixel_size_um
        with lock:
            return len(segmenter.predict(image, slice_index=z, pixel_size_um=size))

    return handle


def workers(path: Path, model: str, items: int, rounds: int) -> None:
    """Predict in one process and in two."""
    with Project.open(path, read_only=True) as project:
        shape = project.shape
    print(f"{items} slices of {shape[1]} x {shape[2]}, {os.cpu_count()} cores")
    rates: dict[int, list[float]] = {1: [], 2: []}
    wholes: dict[int, list[float]] = {1: [], 2: []}
    found: set[tuple[int, ...]] = set()
    for _ in range(rounds):
        for count in (1, 2):
            load = os.getloadavg()[0]
            began = time.monotonic()
            outcomes, first = [], 0.0
            for outcome in spread(network, (path, model), range(items), how=Spread(count)):
                first = first or time.monotonic()
                outcomes.append(outcome)
            ended = time.monotonic()
            rates[count].append((len(outcomes) - 1) / (ended - first))
            wholes[count].append(ended - began)
            found.add(tuple(o.result() for o in sorted(outcomes, key=lambda o: o.item)))
            print(
                f"{count} workers: {rates[count][-1]:.2f} slices a second, whole run"
                f" {wholes[count][-1]:.1f} s (load before {load:.1f})"
            )
    print(f"gain: {np.median(rates[2]) / np.median(rates[1]):.2f} x in slices a second,")
    print(f"      {np.median(wholes[1]) / np.median(wholes[2]):.2f} x in the whole run")
    print(f"the same counts of instances each time: {len(found) == 1}")


def main(what: str, *rest: Any) -> None:
    """Run a part."""
    if what == "drive":
        drive(Path(rest[0]))
    elif what == "kills":
        kills(int(rest[0]) if rest else 30, *([Path(rest[1]), rest[2]] if rest[1:] else []))
    elif what == "workers":
        workers(Path(rest[0]), rest[1], *(int(n) for n in [*rest[2:], *(60, 3)[len(rest) - 2 :]]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
