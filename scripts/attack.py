"""Kill every writing command, fill its disk, run it twice at once; then see whether it recovers.

    python scripts/attack.py kills [COMMAND ...] [--points 10] [--random 20]
    python scripts/attack.py disk [COMMAND ...] [--levels 20]          (root: mounts a small tmpfs)
    python scripts/attack.py processes [--rounds 50]

A command that was killed, or ran out of disk, is run again and must end with the project that an
undisturbed run gives: the same instances, facts, models, edits and files. What may differ is
which runs are recorded, row numbers, dates and reports of broken attempts.

A chosen kill point is the moment before one file operation of the program (opening for writing,
renaming, removing, making a folder) or before one commit of the ledger; they are counted first in
an undisturbed run, and the points are spread over them. Random points are moments in time.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SIZE, SLICES = 1600, 4  # 1600 x 1200 pixels: many chunks a slice

#: Runs the program and dies before the N-th write (N = 0: only counts them, on fd 9).
DRIVER = """
import os, signal, sqlite3, sys
limit, count = int(sys.argv.pop(1)), 0
def step():
    global count
    count += 1
    if count == limit:
        os.kill(os.getpid(), signal.SIGKILL)
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
def hook(event, args):
    if event == "open":
        mode, flags = args[1], args[2] or 0
        writes = any(c in mode for c in "wax+") if isinstance(mode, str) else flags & 3
        if not writes or "/dev/" in str(args[0]) or "__pycache__" in str(args[0]):
            return
    elif event not in WRITES:
        return
    step()
class Connection(sqlite3.Connection):
    def execute(self, sql, *more):
        if sql.lstrip().upper().startswith("COMMIT"):
            step()
        return super().execute(sql, *more)
    def commit(self):
        step()
        super().commit()
plain = sqlite3.connect
sqlite3.connect = lambda *a, **k: plain(*a, **{"factory": Connection, **k})
sys.addaudithook(hook)
from napari_fossiledit.cli import main
try:
    main()
finally:
    if limit == 0:
        os.write(9, str(count).encode())
"""


@dataclass(frozen=True)
class Attack:
    """A command, and the commands that make the project it runs on."""

    name: str
    line: str
    before: tuple[str, ...] = ()


NEW = "new P reef/images --pixel-size 72.7 --slice-spacing 500"
IMPORT = "annotations import P reef/annotations.json"
PREDICT = "predict P --model reef-lite --slices 0-3"
EDIT = "edit P --model reef-lite --slices 0 --tuning 1 --pinned 2 --name e --levels 3"
ATTACKS = (
    Attack("sample", "sample reef reef2 --slices 3 --size 400 --seed 3"),
    Attack("new", NEW),
    Attack("import", IMPORT, (NEW,)),
    Attack("predict", PREDICT, (NEW,)),
    Attack("fill", "annotations fill P --source reef-lite", (NEW, PREDICT)),
    Attack(
        "trace",
        "annotations trace P --slices 0-3",
        (NEW, PREDICT, "annotations fill P --source reef-lite"),
    ),
    Attack(
        "train",
        "train P --name m --slices 0,1 --validation 2 --max-steps 4 --crop 128 --init reef-lite",
        (NEW, IMPORT),
    ),
    Attack("edit", EDIT, (NEW, IMPORT)),
    Attack("apply", "edits apply P e", (NEW, IMPORT, EDIT)),
    Attack("rollback", "edits rollback P e", (NEW, IMPORT, EDIT, "edits apply P e")),
    Attack("link", "link P --source annotations --relink", (NEW, IMPORT)),
    Attack("mesh", "mesh P meshes", (NEW, IMPORT, "link P --source annotations")),
    Attack("measure", "measure P out.csv", (NEW, IMPORT, "link P --source annotations")),
    Attack("export", "annotations export P out.json", (NEW, IMPORT)),
    Attack("convert", "convert P", (NEW,)),
)


def command(line: str, folder: Path, limit: int | None = None) -> list[str]:
    """Return the arguments of a process that runs a command of the program in `folder`."""
    words = [w if w != "P" else "p.fossil" for w in line.split()]
    code = "from napari_fossiledit.cli import main; main()" if limit is None else DRIVER
    return [sys.executable, "-c", code, *([] if limit is None else [str(limit)]), *words, "--json"]


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(line, folder), cwd=folder, capture_output=True, text=True, check=False
    )


def state(folder: Path) -> dict[str, str]:
    """Return what counts of all files below `folder`, by name."""
    found: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if re.search(r"-wal$|-shm$|/reports/|\.lock$", name):
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
        with contextlib.closing(sqlite3.connect(path)) as db:
            ids = dict(db.execute("SELECT id, row_number() OVER (ORDER BY id) FROM instances"))
            columns = [c[1] for c in db.execute("PRAGMA table_info(instances)")]
            rows = [
                tuple(
                    ids.get(v) if c in {"id", "parent"} else v
                    for c, v in zip(columns, r, strict=True)
                )
                for r in db.execute("SELECT * FROM instances ORDER BY id")
            ]
            facts = [
                db.execute(f"SELECT * FROM {t} ORDER BY 1, 2").fetchall()
                for t in ("done", "traced")
            ]
        return repr((sorted(map(repr, rows)), facts)).encode()
    data = path.read_bytes()
    if path.suffix in {".json", ".jsonl"}:
        names = "seconds|minutes|made|created|started|ended|time|duration|eta"
        keys = rf'"({names})[^"]*": *("[^"]*"|[-\d.e]+)'
        data = re.sub(keys.encode(), b"", data)
    return data


def prepared(attack: Attack, folder: Path) -> Path:
    """Make the project that a command starts from, once."""
    base = folder / f"base-{attack.name}"
    if not base.exists():
        base.mkdir()
        shutil.copytree(folder / "reef", base / "reef")
        for line in attack.before:
            done = run(line, base)
            if done.returncode:
                sys.exit(f"{line}: {done.stdout} {done.stderr}")
    return base


def difference(want: dict[str, str], got: dict[str, str]) -> list[str]:
    """Return the names of files that are not alike."""
    return sorted(n for n in want.keys() | got.keys() if want.get(n) != got.get(n))


def check_again(attack: Attack, folder: Path, want: dict[str, str]) -> str:
    """Run a command again after it was broken off; return what is wrong, empty where nothing is."""
    again = run(attack.line, folder)
    if again.returncode:
        return f"rerun fails: {again.stdout.strip()[-300:]}"
    wrong = difference(want, state(folder))
    return f"differs: {wrong[:4]}" if wrong else ""


def kills(attack: Attack, folder: Path, points: int, moments: int) -> list[str]:
    """Kill a command at chosen and random points; return what went wrong."""
    base = prepared(attack, folder)
    whole = Path(shutil.copytree(base, folder / "whole", dirs_exist_ok=False))
    read, write = os.pipe()
    os.dup2(write, 9)
    started = time.monotonic()
    subprocess.run(
        command(attack.line, whole, 0), cwd=whole, pass_fds=(9,), capture_output=True, check=True
    )
    seconds = time.monotonic() - started
    os.close(write)
    os.close(9)
    writes = int(os.read(read, 20))
    os.close(read)
    want = state(whole)
    shutil.rmtree(whole)
    chosen = [1 + round(i * (writes - 1) / max(points - 1, 1)) for i in range(points)]
    # Nothing of ours runs in the first second: python imports.
    times = [random.uniform(0.3, seconds) for _ in range(moments)]
    wrong = []
    for place in [*dict.fromkeys(chosen), *times]:
        broken = Path(shutil.copytree(base, folder / "broken"))
        limit = place if isinstance(place, int) else 10**9
        with subprocess.Popen(
            command(attack.line, broken, limit),
            cwd=broken,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as child:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(None if isinstance(place, int) else place)
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
        problem = check_again(attack, broken, want)
        if problem:
            at = f"write {place} of {writes}" if isinstance(place, int) else f"{place:.2f} s"
            wrong.append(f"{attack.name}, killed at {at}: {problem}")
        shutil.rmtree(broken)
    return wrong


def disk(attack: Attack, folder: Path, levels: int) -> list[str]:
    """Let a command run out of disk at `levels` levels; return what went wrong."""
    base = prepared(attack, folder)
    whole = Path(shutil.copytree(base, folder / "whole"))
    run(attack.line, whole)
    want = state(whole)
    need = size(whole) - size(base)
    shutil.rmtree(whole)
    mount = folder / "small"
    mount.mkdir(exist_ok=True)
    wrong = []
    for level in range(levels):
        free = int((need + 200_000) * level / levels)
        total = -(-(size(base) * 11 // 10 + free) // 4096) * 4096
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={total}", "tmpfs", mount], check=True)
        try:
            broken = mount / "broken"
            try:
                shutil.copytree(base, broken)
            except (shutil.Error, OSError):
                continue
            done = run(attack.line, broken)
            if "nexpected error" in done.stdout + done.stderr or "Traceback" in done.stderr:
                wrong.append(f"{attack.name}, {free} bytes free: {done.stderr.strip()[-200:]}")
            subprocess.run(
                ["mount", "-o", f"remount,size={total + 4 * need + 50_000_000}", mount], check=True
            )
            if problem := check_again(attack, broken, want):
                wrong.append(f"{attack.name}, {free} bytes free: {problem}")
        finally:
            subprocess.run(["umount", mount], check=True)
    return wrong


def size(folder: Path) -> int:
    """Return the bytes that a folder takes, in blocks."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*"))


PAIRS = (
    ("annotations fill P --source reef-lite",) * 2,
    ("annotations fill P --source reef-lite", "annotations trace P --slices 0-3"),
    (IMPORT, "annotations fill P --source reef-lite"),
    (IMPORT, IMPORT),
    ("predict P --model reef-lite --slices 0-3",) * 2,
    ("link P --source reef-lite", "annotations fill P --source reef-lite"),
    ("link P --source reef-lite", "link P --source reef-lite"),
)


def processes(folder: Path, rounds: int) -> list[str]:
    """Run two commands at once; each ends well or says why not, and the project is sound."""
    base = prepared(Attack("two", "", (NEW, PREDICT)), folder)
    wrong = []
    for number in range(rounds):
        lines = PAIRS[number % len(PAIRS)]
        both = Path(shutil.copytree(base, folder / "both"))
        children = [
            subprocess.Popen(
                command(line, both),
                cwd=both,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for line in lines
        ]
        for line, child in zip(lines, children, strict=True):
            out, err = child.communicate()
            if "nexpected error" in out + err or "Traceback" in err or not out.strip():
                wrong.append(f"round {number}, {line}: {err.strip()[-200:]}")
        wrong += [f"round {number}, {lines}: {p}" for p in unsound(both, lines)]
        shutil.rmtree(both)
    return wrong


def unsound(folder: Path, lines: tuple[str, ...]) -> list[str]:
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
    random.seed(args.seed)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="attack-") as scratch:
        folder = Path(scratch)
        made = run(f"sample reef reef --slices {SLICES} --size {args.size} --seed 3", folder)
        if made.returncode:
            sys.exit(made.stderr)
        if args.kind == "processes":
            wrong = processes(folder, args.rounds)
        else:
            for attack in (a for a in ATTACKS if not args.names or a.name in args.names):
                found = (
                    kills(attack, folder, args.points, args.random)
                    if args.kind == "kills"
                    else disk(attack, folder, args.levels)
                )
                print(f"{attack.name}: {len(found)} wrong", flush=True)
                wrong += found
    print("\n".join(wrong) or "all as undisturbed")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
