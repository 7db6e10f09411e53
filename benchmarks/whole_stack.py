"""What a run over a whole stack survives, and what more processes gain.

    python benchmarks/whole_stack.py kills [MOMENTS]
    python benchmarks/whole_stack.py workers PROJECT MODEL [SLICES [ROUNDS]]

``kills``: 100 slices of 64 x 64 pixels are handled by two processes (a threshold, and 50 ms of
waiting for a network) and stored in the ledger of a project. In each run a process is ended by
SIGKILL when a random number of slices is done, from none to nearly all, and up to 50 ms more have
passed: a worker, or in turn the driver, which is then started again. What the ledger holds in the
end is compared with a run that was left alone.

``workers``: a model of the project predicts so many slices, from the first on and again, in one
process and in two, a computing thread each, in turn; nothing is stored. Slices a second are those
between the first and the last result; the whole run has the start of the processes in it.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
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
from PIL import Image

from napari_fossiledit.jobs import Spread, spread
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.segment import Engine, PredictParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import Project
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
                with (path.parent / "failed").open("a") as failed:
                    failed.write(f"{outcome.item}: {outcome.error}\n")


def state(path: Path) -> str:
    """Return a digest of all that the ledger says of the slices."""
    digest = hashlib.sha256()
    with Project.open(path, read_only=True) as project:
        digest.update(repr(sorted(project.ledger.done(SOURCE))).encode())
        for z in range(SLICES):
            for i in project.instances(SOURCE, z):
                digest.update(repr((z, i.class_name, i.score, i.mask)).encode())
    return digest.hexdigest()


def kills(moments: int) -> None:
    """End a process at random moments, and compare what is left in the end."""
    home = Path(tempfile.mkdtemp(prefix="fossiledit-kills-"))
    rng = np.random.default_rng(0)
    (home / "images").mkdir()
    for z in range(SLICES):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / "images" / f"{z:04d}.png")
    new.run(home / "fresh.fossil", home / "images", NewParams(pixel_size=72.7, slice_spacing=500))

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, __file__, "drive", str(home / "p.fossil")])

    def finish(process: subprocess.Popen[bytes]) -> int:
        return process.wait(300)

    def afresh() -> None:
        shutil.rmtree(home / "p.fossil", ignore_errors=True)
        shutil.copytree(home / "fresh.fossil", home / "p.fossil")

    afresh()
    began = time.monotonic()
    finish(begin())
    whole, wanted = time.monotonic() - began, state(home / "p.fossil")
    same, hit, orphans, seconds, done_then = 0, {"worker": 0, "driver": 0}, 0, [], []
    rand = random.Random(18)
    for n in range(moments):
        afresh()
        began, moment = time.monotonic(), rand.randrange(SLICES)
        process = begin()
        with Project.open(home / "p.fossil", read_only=True) as project:
            while len(project.ledger.done(SOURCE)) < moment and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rand.uniform(0, WAIT_S) if moment else rand.uniform(0, whole / 2))
            done_then.append(len(project.ledger.done(SOURCE)))
        running = process.poll() is None
        workers = psutil.Process(process.pid).children() if running else []
        if n % 2 and workers:
            rand.choice(workers).kill()
            hit["worker"] += 1
        elif running:
            process.kill()
            hit["driver"] += 1
            process.wait()
            _, alive = psutil.wait_procs(workers, timeout=2)
            orphans += len(alive)
            process = begin()
        code = finish(process)
        seconds.append(time.monotonic() - began)
        same += code == 0 and state(home / "p.fossil") == wanted
    failed = home / "failed"
    print(f"undisturbed: {whole:.1f} s; load {os.getloadavg()[0]:.1f}")
    print(f"{moments} moments: {hit}; slices done by then: {sorted(done_then)}")
    print(f"identical: {same} of {moments}; workers left 2 s after their driver: {orphans}")
    print(f"slices marked failed: {len(failed.read_text().splitlines()) if failed.exists() else 0}")
    print(f"seconds of a run: median {np.median(seconds):.1f}, most {max(seconds):.1f}")
    shutil.rmtree(home)


def network(path: Path, model: str) -> Callable[[int], int]:
    """Make what predicts a slice of a project and counts the instances."""
    import torch

    from napari_fossiledit.workflows.segment.predict import load_segmenter
    from napari_fossiledit.workflows.shared.model_refs import find_model

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
        kills(int(rest[0]) if rest else 30)
    elif what == "workers":
        workers(Path(rest[0]), rest[1], *(int(n) for n in [*rest[2:], *(60, 3)[len(rest) - 2 :]]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
