"""Print a digest of everything the commands compute and write on a small sample reef.

Two versions of the program that behave alike print the same lines, bit for bit:

    PYTHONPATH=before/src .venv/bin/python scripts/fingerprint.py > before.txt
    PYTHONPATH=src .venv/bin/python scripts/fingerprint.py > after.txt
    diff before.txt after.txt

Run times, dates and temporary paths are left out of what is compared; nothing else is.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

REEF = "r.fossil"
COMMANDS = (
    "sample reef reef --slices 6 --size 256 --seed 4",
    f"new {REEF} reef/images --pixel-size 72.7 --slice-spacing 500",
    f"annotations import {REEF} reef/annotations.json",
    f"info {REEF}",
    f"predict {REEF} --model reef-lite",
    f"evaluate {REEF} --model reef-lite --slices 0-5",
    f"train {REEF} --name small --slices 0,2 --validation 4 --max-steps 3 --crop 128"
    " --init reef-lite --device cpu",
    f"predict {REEF} --model small --slices 0,1 --engine fast",
    f"perturb {REEF} 1 --out perturbed.png",
    f"probe {REEF} --model reef-lite --slices 1 --presets background-to-mud",
    f"edit {REEF} --model reef-lite --slices 1 --tuning 2,3 --pinned 4,5 --name masks",
    f"edit {REEF} --model reef-lite --slices 0 --tuning 2,3 --pinned 4,5 --name whole --scope all"
    " --solver direct --iterations 5",
    f"edit {REEF} --model reef-lite --slices 0 --tuning 2 --pinned 4 --name steps --scope all"
    " --solver adam --adam-steps 5",
    f"repair {REEF} --model reef-lite --slice 2 --instance 229 --joint 1 --name mended"
    " --tuning 3 --pinned 4",
    f"edits compose {REEF} masks whole --name both",
    f"edits apply {REEF} whole",
    f"predict {REEF}",
    f"edits list {REEF}",
    f"edits show {REEF} whole",
    f"edits export {REEF} whole exported",
    f"edits rollback {REEF} whole",
    f"annotations fill {REEF} --source reef-lite",
    f"annotations trace {REEF} --slices 1",
    f"annotations export {REEF} out.json",
    f"link {REEF} --source reef-lite --score 0.3",
    f"mesh {REEF} meshes --format stl",
    f"mesh {REEF} scenes --format glb",
    f"measure {REEF} specimens.csv",
    f"pictures {REEF} drawn --model reef-lite --no-specimens",
    f"convert {REEF}",
    f"info {REEF}",
    f"link {REEF} --source nowhere",
)
CHANGING = re.compile(
    r"seconds|minutes|duration|started|ended|created|made|date|time|version|peak|memory|bytes"
)
# Ledger columns and values, JSON keys and texts that hold a date, a path or a run time.
TIMES = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(\+\d\d:\d\d|Z)?|\d{8}-\d{6}-\d+|\b\d+(\.\d+)? s\b"
)


def run(line: str) -> str:
    """Run a command in this process; return its JSON output with changing values left out."""
    from napari_fossiledit.cli import main

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["fossiledit", *line.split(), "--json"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
    text = out.getvalue()
    try:
        values = json.dumps(settled(json.loads(text)), sort_keys=True)
    except json.JSONDecodeError:
        values = settled(text)
    return (
        f"exit {code} {values}" if code == 0 else f"exit {code} {values} {settled(err.getvalue())}"
    )


def settled(value: Any) -> Any:
    """Return `value` without what differs between two runs of one version."""
    if isinstance(value, dict):
        return {k: settled(v) for k, v in value.items() if not CHANGING.search(k)}
    if isinstance(value, list):
        return [settled(v) for v in value]
    if isinstance(value, str):
        from napari_fossiledit.models.files.places import SHIPPED

        for place, word in ((SHIPPED, "SHIPPED"), (Path.cwd(), "HERE")):
            value = value.replace(str(place), word)
        return TIMES.sub("TIME", value)
    return value


def content(path: Path) -> bytes:
    """Return what counts of a file."""
    if path.suffix == ".json":
        return json.dumps(settled(json.loads(path.read_text())), sort_keys=True).encode()
    if path.suffix == ".sqlite":
        with contextlib.closing(sqlite3.connect(path)) as db:
            tables = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            rows = {t: db.execute(f"SELECT * FROM {t} ORDER BY 1, 2").fetchall() for t in tables}
        for row in rows.pop("runs", []):
            rows.setdefault("runs", []).append(row[:2])
        return settled(repr(sorted(rows.items()))).encode()
    if path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        return json.dumps([settled(json.loads(line)) for line in lines], sort_keys=True).encode()
    if path.suffix in {".html", ".csv", ".txt"}:
        return settled(path.read_text()).encode()
    return path.read_bytes()


def digest(data: bytes) -> str:
    """Return the first digits of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()[:16]


def main_() -> None:
    """Run all commands in a temporary folder and print the digests."""
    import napari_fossiledit

    print(f"program: {Path(napari_fossiledit.__file__).parent}", file=sys.stderr)
    keep = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as scratch:
        folder = Path(keep or scratch)
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        for number, line in enumerate(COMMANDS):
            result = run(line)
            Path(f"out-{number:02}.log").write_text(result)
            print(f"{digest(result.encode())} {result[:7]} fossiledit {line}", flush=True)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            if path.suffix not in {".log", ".html"} and not path.name.endswith(("-wal", "-shm")):
                name = settled(str(path.relative_to(folder)))
                print(f"{digest(content(path))} {name}")


if __name__ == "__main__":
    main_()
