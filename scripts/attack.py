"""Kill every writing command, fill its disk, run it twice at once; then see whether it recovers.

    python scripts/attack.py kills [COMMAND ...] [--points 10] [--random 20]
    python scripts/attack.py disk [COMMAND ...] [--levels 20]          (root: mounts a small tmpfs)
    python scripts/attack.py processes [--rounds 50]

A command that was killed, or ran out of disk, is run again and must end with the project that an
undisturbed run gives: the same instances, facts, models, edits, reports and files. What may differ
is which runs are recorded, row numbers, dates and reports of broken attempts. Where nothing was
left to do, the command may refuse to do it again.

A chosen kill point is the moment before one file operation of the program (opening for writing,
renaming, removing, making a folder) or before one commit of the ledger; they are counted first in
an undisturbed run, and the points are spread over them. Random points are moments in time.

Every run is a process forked from this one, which has imported the program and computes nothing:
what is killed is the work, not python as it starts.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import mmap
import os
import pkgutil
import random
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

SIZE, SLICES = 1600, 4  # 1600 x 1200 pixels: many chunks a slice
LONGEST_S = 600
SPARE = 100_000  # bytes: temporary files, and what SQLite has beside a ledger
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}


class Run:
    """A command in a process of its own, which dies before write number `limit`."""

    def __init__(self, line: str, folder: Path, limit: int = 0) -> None:
        self.line, self._writes = line, mmap.mmap(-1, 8)
        self._streams = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        self.pid = os.fork()
        if self.pid == 0:
            for number, stream in enumerate(self._streams, start=1):
                os.dup2(stream.fileno(), number)
            os.chdir(folder)
            program(line, limit, self._writes)

    @property
    def writes(self) -> int:
        """Number of writes up to now."""
        return int.from_bytes(self._writes[:8], "little")

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for the end; return the exit code and what was printed."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        for stream in self._streams:
            stream.seek(0)
        out, err = (stream.read() for stream in self._streams)
        return subprocess.CompletedProcess(self.line, code, out, err)


def program(line: str, limit: int, writes: mmap.mmap) -> NoReturn:
    """Run a command in this process, count its writes, and die before number `limit`."""

    def step() -> None:
        count = int.from_bytes(writes[:8], "little") + 1
        writes[:8] = count.to_bytes(8, "little")
        if count == limit:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = str(args[0]), args[1], args[2] or 0
            opened = any(c in mode for c in "wax+") if isinstance(mode, str) else flags & 3
            if opened and "/dev/" not in path and "__pycache__" not in path:
                step()
        elif event in WRITES:
            step()

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:
            if sql.lstrip().upper().startswith("COMMIT"):
                step()
            return super().execute(sql, *more)

    code: object = 1
    try:
        signal.alarm(LONGEST_S)
        plain = sqlite3.connect
        sqlite3.connect = lambda *a, **k: plain(*a, **{"factory": Connection, **k})
        sys.addaudithook(hook)
        words = [{"P": "p.fossil"}.get(word, word) for word in shlex.split(line)]
        sys.argv = ["fossiledit", *words, "--json"]
        import_module("napari_fossiledit.cli").main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:  # noqa: BLE001  # this process ends here, whatever it is
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return Run(line, folder).end()


def load() -> None:
    """Import all that commands import when they run."""
    import napari_fossiledit

    for module in pkgutil.walk_packages(napari_fossiledit.__path__, "napari_fossiledit."):
        if ".widgets" not in module.name:
            with contextlib.suppress(ImportError):  # of what is not installed
                import_module(module.name)


# ---------------------------------------------------------------------- the commands


def some_photographs(folder: Path) -> None:
    """Copy the first photographs."""
    (folder / "photos").mkdir()
    for path in sorted((folder / "../reef/images").iterdir())[:-1]:
        shutil.copy(path, folder / "photos")


def all_photographs(folder: Path) -> None:
    """Copy all photographs."""
    shutil.copytree(folder / "../reef/images", folder / "photos", dirs_exist_ok=True)


def moved_photographs(folder: Path) -> None:
    """Give the photographs another place."""
    (folder / "photos").rename(folder / "moved")


def large_model(folder: Path) -> None:
    """Put a model that detectron2 can read, of random weights, into the project."""
    from napari_fossiledit.models.files.registry import save_model
    from napari_fossiledit.models.inference.preprocessing import Preprocessing
    from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
    from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
    from napari_fossiledit.models.network.spec import default_spec

    small = {"box_width": 16, "mask_channels": 8, "exact_anchors": True, "aligned_roi": True}
    spec = default_spec("r50", ("archaeocyathid",)).model_copy(update=small)
    model = MaskRcnnSegmenter(MaskRcnn(spec), Preprocessing(scale=0.5))
    save_model(model, folder / "p.fossil" / "models" / "r50")


def damage(folder: Path) -> None:
    """Damage annotations that the journal holds, and a prediction, which it does not."""
    with contextlib.closing(sqlite3.connect(folder / "p.fossil" / "ledger.sqlite")) as db:
        db.execute("UPDATE instances SET counts = x'00' WHERE id % 40 = 1")
        db.commit()


Step = str | Callable[[Path], None]


@dataclass(frozen=True)
class Attack:
    """A command, and what makes the project it runs on: commands, and functions of its folder."""

    name: str
    line: str
    before: tuple[Step, ...] = ()


NEW = "new P ../reef/images --pixel-size 72.7 --slice-spacing 500"
NEW_HERE = NEW.replace("../reef/images", "photos")
IMPORT = "annotations import P ../reef/annotations.json"
PREDICT = "predict P --model reef-lite --slices 0,1"
FILL = "annotations fill P --source reef-lite"
LINK = "link P --source annotations"
UNTRACE = "annotations untrace P --slices 1,2"
EXPORT = "annotations export P out.json"
PART = "annotations trace P --slices 1 --region 200:900,100:700"
TO_DETECTRON2 = "models export P r50 d2"
EDIT = "edit P --model reef-lite --slices 0 --pinned 1 --name e --levels 3 --strengths 0.5"
LABELS = "annotations import P ../reef/labels_archaeocyathid_zyx.tif --class archaeocyathid"
ONE = "--model reef-lite --slices 0"
PLACE = "--slice 0 --outline 'ellipse 400:700,300:600' --pinned 1 --name r --strengths 0.5"
TRACED, LARGE = (NEW, IMPORT), (NEW, large_model)
# Two slices are traced and predicted: of what is computed, little is more than once.
TO_EDIT = (NEW, IMPORT + " --slices 0,1", PREDICT)
EDITED = (*TO_EDIT, EDIT)
ATTACKS = (
    Attack("sample", "sample reef reef2 --slices 3 --size 400 --seed 3"),
    Attack("demo", "demo --no-gui --slices 8 --size 256"),
    Attack("new", NEW),
    Attack("move", "move P moved", (all_photographs, NEW_HERE, moved_photographs)),
    Attack("append", "stack append P", (some_photographs, NEW_HERE, all_photographs)),
    Attack("convert", "convert P", (NEW,)),
    Attack("repair-project", "repair-project P --clear", (NEW, IMPORT, PREDICT, damage)),
    Attack("mud", "mud P 0 20 30", (NEW,)),
    Attack("import", IMPORT, (NEW,)),
    Attack("import-again", IMPORT, (NEW, PREDICT, FILL)),
    Attack("import-labels", LABELS, (NEW,)),
    Attack("merge", "review merge P 2,3 --slice 0", TRACED),
    Attack("accept", "review accept P all --slice 0", TRACED),
    Attack("queue", "review queue P", (NEW, PREDICT, FILL)),
    Attack("interpolate", "review interpolate P --slices 0,2", (NEW, IMPORT + " --slices 0,2")),
    Attack(
        "restore",
        "review versions P --restore a",
        (*TRACED, "review versions P --name a", "review reject P 1 --slice 0"),
    ),
    Attack("export", EXPORT, TRACED),
    Attack("export-tif", "annotations export P out.tif", TRACED),
    Attack("export-zarr", "annotations export P out.zarr", TRACED),
    Attack(
        "export-again",
        "annotations export P out.json",
        (NEW, LABELS, "annotations export P out.json", IMPORT),
    ),
    Attack("predict", PREDICT, (NEW,)),
    Attack("fill", FILL, (NEW, PREDICT)),
    Attack("fill-again", FILL + " --overwrite", (*TRACED, PREDICT)),
    Attack("trace", "annotations trace P --slices 0,1", (NEW, PREDICT, FILL)),
    Attack(
        "trace-part", "annotations trace P --slices 1 --region 200:900,100:700", (*TRACED, UNTRACE)
    ),
    Attack("untrace", UNTRACE, TRACED),
    Attack("undo", "review undo P", TRACED),
    Attack("redo", "review redo P", (*TRACED, "review undo P")),
    Attack(
        "train",
        "train P --name m --slices 0 --validation 2 --region 600:1000,400:800 --max-steps 2"
        " --crop 128 --batch 1 --init reef-lite",
        TRACED,
    ),
    Attack(
        "teach",
        "review teach P --model reef-lite --slices 0 --pin 1 --max-steps 2 --crop 128 --batch 1",
        (
            NEW,
            IMPORT + " --slices 0,1",
            "annotations untrace P --slices 0",
            "review accept P all --slice 0",
            PREDICT,
        ),
    ),
    Attack("evaluate", "evaluate P --model reef-lite --slices 1", TRACED),
    Attack("refine", "refine P --model reef-lite --slices 0,1", TRACED),
    Attack("calibrate", "calibrate P --model reef-lite --slices 0,1", TRACED),
    Attack("models-export", "models export P r50 d2", LARGE),
    Attack(
        "models-import",
        "models import P d2/model_final.pth --name d2",
        (*LARGE, "models export P r50 d2"),
    ),
    Attack("perturb", "perturb P 0 --out mud.png", TRACED),
    Attack("probe", f"probe P {ONE} --presets background-to-mud", TRACED),
    Attack("edit", EDIT, TO_EDIT),
    Attack("repair", f"repair P --model reef-lite {PLACE}", TO_EDIT),
    Attack("apply", "edits apply P e", EDITED),
    Attack("rollback", "edits rollback P e", (*EDITED, "edits apply P e")),
    Attack("compose", "edits compose P e --name c", EDITED),
    Attack("invert", "edits invert P e --name i", EDITED),
    Attack("edits-export", "edits export P e out", EDITED),
    Attack("link", LINK + " --relink", TRACED),
    Attack("mesh", "mesh P meshes", (*TRACED, LINK)),
    Attack("mesh-again", "mesh P meshes --format ply", (*TRACED, LINK, "mesh P meshes")),
    Attack("measure", "measure P out.csv", (*TRACED, LINK)),
    Attack("pictures", f"pictures P pictures {ONE}", (*TRACED, PREDICT, LINK)),
)


@cache
def prepared(before: tuple[Step, ...], folder: Path) -> Path:
    """Make the folder that a command starts from, once."""
    base = folder / f"base-{len([*folder.glob('base-*')])}"
    if not before:
        base.mkdir()
        return base
    start = prepared(before[:-1], folder)
    base = Path(shutil.copytree(start, folder / f"base-{len([*folder.glob('base-*')])}"))
    step = before[-1]
    if isinstance(step, str):
        done = run(step, base)
        if done.returncode:
            raise RuntimeError(f"{step}: {done.stderr}")
    elif (child := os.fork()) == 0:  # this process computes nothing
        step(base)
        os._exit(0)
    else:
        os.waitpid(child, 0)
    return base


# ------------------------------------------------------------------- what must be alike


def state(folder: Path) -> dict[str, str]:
    """Return what counts of all files below `folder`, by name."""
    found: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if re.search(r"-wal$|-shm$|-journal$|\.lock$", name):
            continue
        if "/reports/" in name:
            found[re.sub(r"\d+", "#", name)] = ""  # named after the time
            continue
        data = content(path)
        if path.suffix in {".json", ".jsonl"}:
            # Lists of written files have the project that they are of, and times in nanoseconds.
            data = re.sub(rb"\b\d{19}\b", b"", data.replace(str(folder.resolve()).encode(), b""))
        found[name] = hashlib.sha256(data).hexdigest()[:12]
    return found


def content(path: Path) -> bytes:
    """Return a file without dates, times and row numbers."""
    if path.suffix == ".sqlite":
        with contextlib.suppress(sqlite3.DatabaseError):  # half made, and left behind
            return ledger(path)
    data = path.read_bytes()
    if path.suffix in {".json", ".jsonl"}:
        names = "seconds|minutes|made|created|started|ended|time|duration|eta"
        keys = rf'"({names})[^"]*": *("[^"]*"|[-\d.e]+)'
        data = re.sub(keys.encode(), b"", data)
    return data


def ledger(path: Path) -> bytes:
    """Return the facts of a ledger without dates and row numbers."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        ids = dict(db.execute("SELECT id, row_number() OVER (ORDER BY id) FROM instances"))
        columns = [c[1] for c in db.execute("PRAGMA table_info(instances)")]
        rows = [
            tuple(
                ids.get(v) if c in {"id", "parent"} else v for c, v in zip(columns, r, strict=True)
            )
            for r in db.execute("SELECT * FROM instances ORDER BY id")
        ]
        facts = [
            db.execute(f"SELECT {what} ORDER BY 1, 2").fetchall()
            for what in (
                "* FROM done",
                "* FROM traced",
                "* FROM made_from",
                "place, z, content FROM contents",
                # What was linked is kept as a digest of row numbers.
                "* FROM meta WHERE key NOT LIKE 'linked:%'",
            )
        ]
    return repr((sorted(map(repr, rows)), facts)).encode()


def check(folder: Path, want: dict[str, str]) -> str:
    """Return which files are not as they must be after a command, empty where all are."""
    got = state(folder)
    wrong = sorted(n for n in want.keys() | got.keys() if want.get(n) != got.get(n))
    return f"differs: {wrong[:4]}" if wrong else ""


def check_again(attack: Attack, folder: Path, want: dict[str, str]) -> str:
    """Run a command again after it was broken off; return what is wrong, empty where nothing is."""
    again = run(attack.line, folder)
    problem = check(folder, want)
    if again.returncode and (problem or "nexpected error" in again.stderr):
        return f"rerun fails: {(again.stdout + again.stderr).strip()[-300:]}"
    return problem


# ------------------------------------------------------------------------- the attacks


def undisturbed(attack: Attack, folder: Path) -> tuple[dict[str, str], int, int, float]:
    """Return what a command ends with, its writes, the bytes it adds, and seconds it takes."""
    base = prepared(attack.before, folder)
    whole = Path(shutil.copytree(base, folder / "whole"))
    started = time.monotonic()
    process = Run(attack.line, whole)
    done = process.end()
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"{attack.line}: {done.stderr}")
    want, more = state(whole), size(whole) - size(base)
    shutil.rmtree(whole)
    return want, process.writes, more, seconds


def kills(attack: Attack, folder: Path, points: int, moments: int) -> tuple[str, list[str]]:
    """Kill a command at chosen and random points; return what was done and what went wrong."""
    want, writes, _, seconds = undisturbed(attack, folder)
    chosen = dict.fromkeys(1 + round(i * (writes - 1) / max(points - 1, 1)) for i in range(points))
    times = [random.uniform(0, seconds) for _ in range(moments)]
    wrong = []
    for place in [*chosen, *times]:
        broken = Path(shutil.copytree(prepared(attack.before, folder), folder / "broken"))
        if isinstance(place, int):
            Run(attack.line, broken, place).end()
        else:
            process = Run(attack.line, broken)
            time.sleep(place)
            os.kill(process.pid, signal.SIGKILL)
            process.end()
        if problem := check_again(attack, broken, want):
            at = f"write {place} of {writes}" if isinstance(place, int) else f"{place:.2f} s"
            wrong.append(f"{attack.name}, killed at {at}: {problem}")
        shutil.rmtree(broken)
    return f"{writes} writes of {seconds:.1f} s, {len(chosen)} + {moments} kills", wrong


def disk(attack: Attack, folder: Path, levels: int) -> tuple[str, list[str]]:
    """Let a command run out of disk at `levels` levels; return what was done and went wrong."""
    want, _, need, _ = undisturbed(attack, folder)
    base = prepared(attack.before, folder)
    mount = folder / "small"
    mount.mkdir(exist_ok=True)
    wrong, full = [], 0

    def resize(free: int) -> None:
        there = os.statvfs(mount)
        used = (there.f_blocks - there.f_bfree) * there.f_frsize
        # 0 is no limit at all.
        options = f"remount,size={max(-(-(used + free) // 4096), 1) * 4096}"
        subprocess.run(["mount", "-o", options, mount], check=True)

    for level in range(levels):
        free = int((need + SPARE) * level / levels)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mount], check=True)
        try:
            broken = Path(shutil.copytree(base, mount / "broken"))
            (mount / "reef").symlink_to(folder / "reef")
            resize(free)
            done = run(attack.line, broken)
            full += bool(done.returncode)
            if "nexpected error" in done.stdout + done.stderr or "Traceback" in done.stderr:
                wrong.append(f"{attack.name}, {free} bytes free: {done.stderr.strip()[-200:]}")
            resize(4 * need + 50_000_000)
            failed = done.returncode != 0
            if problem := check_again(attack, broken, want) if failed else check(broken, want):
                wrong.append(f"{attack.name}, {free} bytes free: {problem}")
        finally:
            subprocess.run(["umount", mount], check=True)
    return f"{need} bytes, {levels} levels, {full} of them too low", wrong


def size(folder: Path) -> int:
    """Return the bytes that a folder takes, in blocks."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*"))


PAIRS = (
    (FILL, FILL),
    (FILL, "annotations trace P --slices 0,1"),
    (IMPORT, FILL),
    (IMPORT, IMPORT),
    (PREDICT, PREDICT),
    ("link P --source reef-lite", FILL),
    ("link P --source reef-lite", "link P --source reef-lite"),
    (LABELS, "review undo P"),
)


def processes(folder: Path, rounds: int) -> list[str]:
    """Run two commands at once; each ends well or says why not, and the project is sound."""
    wrong = []
    for number in range(rounds):
        lines = PAIRS[number % len(PAIRS)]
        # Predicting is only worth an attack where nothing is predicted yet.
        base = prepared((NEW,) if PREDICT in lines else (NEW, PREDICT), folder)
        both = Path(shutil.copytree(base, folder / "both"))
        for process in [Run(line, both) for line in lines]:
            done = process.end()
            printed = done.stdout + done.stderr
            if "nexpected error" in printed or "Traceback" in printed or not done.stdout.strip():
                wrong.append(f"round {number}, {process.line}: {done.stderr.strip()[-200:]}")
        wrong += [f"round {number}, {lines}: {p}" for p in unsound(both)]
        shutil.rmtree(both)
    return wrong


def unsound(folder: Path) -> list[str]:
    """Return what is wrong with a project: doubled instances, facts without rows."""
    with contextlib.closing(sqlite3.connect(folder / "p.fossil" / "ledger.sqlite")) as db:
        doubled = db.execute(
            "SELECT source, z, count(*) FROM instances GROUP BY source, z, class, part, counts"
            " HAVING count(*) > 1"
        ).fetchall()
        orphans = db.execute(
            "SELECT source, z FROM instances EXCEPT SELECT source, z FROM done"
        ).fetchall()
        check = db.execute("PRAGMA integrity_check").fetchone()[0]
    problems = [f"doubled {d}" for d in doubled] + [f"not done {o}" for o in orphans]
    info = run("info P", folder)
    return (
        problems + ([check] if check != "ok" else []) + ([info.stdout] if info.returncode else [])
    )


def main() -> None:
    """Parse the command line, attack, and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["kills", "disk", "processes"])
    parser.add_argument("names", nargs="*", help="commands; all where none is named")
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    attacks = {attack.name: attack for attack in ATTACKS}
    if unknown := {*args.names} - {*attacks}:
        parser.error(f"no such command: {', '.join(unknown)}; there are {', '.join(attacks)}")
    random.seed(args.seed)
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    load()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="attack-") as scratch:
        folder = Path(scratch)
        made = run(f"sample reef reef --slices {SLICES} --size {args.size} --seed 3", folder)
        if made.returncode:
            sys.exit(made.stderr)
        if args.kind == "processes":
            wrong = processes(folder, args.rounds)
        else:
            attack_with = partial(kills, points=args.points, moments=args.random)
            if args.kind == "disk":
                attack_with = partial(disk, levels=args.levels)
            for name in args.names or attacks:
                try:
                    done, found = attack_with(attacks[name], folder)
                except RuntimeError as error:
                    done, found = "not attacked", [str(error)]
                    shutil.rmtree(folder / "whole", ignore_errors=True)
                print("\n".join([f"{name}: {done}, {len(found)} wrong", *found]), flush=True)
                wrong += found
    print("\n".join(wrong) or "all as undisturbed")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
