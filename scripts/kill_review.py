"""Kill a program while it corrects masks; then see that the journal and the masks agree.

    python scripts/kill_review.py [--kills 40] [--seed 0]

A process paints strokes, takes predictions over, interpolates, finds slices right, names versions
and brings them back, undoes and redoes, in random order, and tells after each of them what the
user's set is. It is killed at a random moment. Then: SQLite finds the file sound; without the
action that was in the air, the set is what was told last; undoing everything gives the set of the
start, and redoing everything the one that was found. Each round goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.annotations import FillParams
from napari_fossiledit.params.review import CorrectParams, InterpolateParams, VersionsParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Ledger, Project
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.widgets.canvas.slice_view import SliceView
from napari_fossiledit.workflows.annotate.corrections import correct, fill
from napari_fossiledit.workflows.review.journal import redo, undo, versions
from napari_fossiledit.workflows.review.through_z import interpolate

SHAPE = (24, 900, 1200)
PREDICTED = "model:reef-lite:000000000000"
#: All that the journal is to bring back.
STATE = (
    "id, z, class, part, score, height, width, counts, texture, unsure, origin, specimen, parent,"
    " review, guessed FROM instances WHERE source = 'annotations' ORDER BY id",
    "z FROM done WHERE source = 'annotations' ORDER BY z",
    "z, height, width, counts FROM traced ORDER BY z",
    "id, z FROM rejected ORDER BY id",
)


def disk(y: int, x: int, radius: int) -> Mask:
    """Return a round mask."""
    dy, dx = np.mgrid[-radius:radius, -radius:radius]
    return Mask.from_crop(np.hypot(dy, dx) < radius, (y - radius, x - radius), SHAPE[1:])


def make(folder: Path) -> Path:
    """Make a project with predictions on every slice, and masks on every fourth."""
    path = folder / "p.fossil"
    stack = BlankStack.of_shape(folder / "blank", SHAPE)
    with Project.create(path, stack, NewParams(pixel_size=50, slice_spacing=500)) as project:
        places = [(y, x) for y in range(100, 850, 90) for x in range(100, 1150, 90)]
        for z in range(SHAPE[0]):
            found = [Instance(z, "archaeocyathid", disk(y + z, x, 30)) for y, x in places]
            project.ledger.store(PREDICTED, z, [replace(i, score=0.9) for i in found])
            if z % 4 == 0:
                project.ledger.store(ANNOTATIONS, z, found[::2])
    return path


def state(path: Path) -> tuple[str, int]:
    """Return a hash of the user's set, and the last action that is not undone."""
    with closing(sqlite3.connect(path / "ledger.sqlite", timeout=30)) as db:
        db.execute("BEGIN")
        rows = [db.execute(f"SELECT {query}").fetchall() for query in STATE]
        (head,) = db.execute("SELECT ifnull(max(id), 0) FROM actions WHERE undone = 0").fetchone()
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16], head


def work(path: Path, seed: int, told: int) -> None:
    """Change the masks for ever, and tell the state after each change."""
    choose = random.Random(seed)
    names = 0
    with Project.open(path) as project:
        view = SliceView(project.ledger, project.shape, lambda: "archaeocyathid")

        def stroke() -> None:
            z, y, x = (choose.randrange(n) for n in (SHAPE[0], SHAPE[1] - 30, SHAPE[2] - 200))
            view[z, y : y + 20, x : x + 150] = choose.choice([0, view.reserve()])
            view.save()

        def version() -> None:
            nonlocal names
            names += 1
            versions(path, VersionsParams(name=f"{seed}.{names}"))

        def restore() -> None:
            if made := [v.name for v in project.ledger.versions() if v.changes is not None]:
                versions(path, VersionsParams(restore=choose.choice(made)))

        actions = [
            *[stroke] * 4,
            lambda: fill(path, FillParams(slices="all", score=0, overwrite=choose.random() < 0.5)),
            lambda: interpolate(path, InterpolateParams()),
            lambda: correct(path, CorrectParams(slice=choose.randrange(SHAPE[0]), accept="all")),
            version,
            restore,
            *[lambda: undo(path)] * 2,
            lambda: redo(path),
        ]
        while True:
            os.write(told, f"{' '.join(map(str, state(path)))}\n".encode())
            with suppress(FossilError):  # nothing to be undone, to be interpolated, ...
                choose.choice(actions)()


def killed(path: Path, seed: int, seconds: float) -> tuple[str, int, int]:
    """Let a process work, and kill it; return what it told last, and how often it did."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            work(path, seed, writing)
        except BaseException:  # noqa: BLE001  # this process ends here, whatever it is
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        first = stream.readline()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        lines = [line for line in (first + stream.read()).split(b"\n")[:-1] if line]
    if code != -signal.SIGKILL:
        raise RuntimeError(f"the process ended by itself ({code})")
    digest, head = lines[-1].decode().split()
    return digest, int(head), len(lines) - 1


def problems(path: Path, told: tuple[str, int], start: str) -> list[str]:
    """Return what is wrong with a project whose program was killed."""
    found, wrong = state(path), []
    with closing(sqlite3.connect(path / "ledger.sqlite")) as db:
        checked = db.execute("PRAGMA integrity_check").fetchone()[0]
        wrong += [checked] * (checked != "ok") + db.execute("PRAGMA foreign_key_check").fetchall()
    with Ledger(path / "ledger.sqlite") as ledger:
        # What was in the air: an action, or a part of one; or an undo or redo.
        for there, move in (
            (lambda h: h > told[1], ledger.undo),
            (lambda h: h < told[1], ledger.redo),
        ):
            moves = 0
            while there(state(path)[1]) and move():
                moves += 1
            wrong += [f"{moves} actions in the air"] * (moves > 1)
        if state(path)[0] != told[0]:
            wrong.append("more than what was in the air is lost")
        while state(path)[1] < found[1] and ledger.redo():
            pass
        while state(path)[1] > found[1] and ledger.undo():
            pass
        if state(path)[0] != found[0]:
            wrong.append("what was in the air does not come back")
        undone = 0
        while ledger.undo() is not None:
            undone += 1
        if state(path)[0] != start:
            wrong.append(f"the start is another one after {undone} were undone")
        for _ in range(undone):
            ledger.redo()
        if state(path)[0] != found[0]:
            wrong.append(f"the end is another one after {undone} were redone")
    return wrong


def main() -> None:
    """Kill, look, and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    choose, failed, done = random.Random(args.seed), 0, 0
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        path = make(Path(scratch))
        while True:  # what was stored first is in the journal as well
            with Ledger(path / "ledger.sqlite") as ledger:
                if ledger.undo() is None:
                    break
        start = state(path)[0]
        with Ledger(path / "ledger.sqlite") as ledger:
            while ledger.redo() is not None:
                pass
        for number in range(args.kills):
            digest, head, count = killed(path, choose.randrange(2**30), choose.uniform(0.05, 4))
            done += count
            if wrong := problems(path, (digest, head), start):
                failed += 1
                print(f"kill {number}: {wrong}", flush=True)
    print(f"{failed} of {args.kills} kills wrong, {done} changes made")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
