"""Native detectron2 0.6 without a compiler, for tests and benchmarks: fetched once, then kept.

    python scripts/native_detectron2.py [CACHE]

prints the folders to put on ``PYTHONPATH``. Nothing is installed: the source package
``pb1-detectron2`` of the Python package index holds the unchanged Python code of detectron2 0.6,
which is unpacked beside an empty module in place of its compiled part (Mask R-CNN takes ROIAlign
and NMS from torchvision). Its checksum is compared before anything of it runs.

The exit code is 3 where the index cannot be reached.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = "pb1-detectron2==0.6"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
NEEDED = [
    "fvcore==0.1.5.post20221221",
    "iopath==0.1.10",
    "omegaconf==2.3.0",
    "antlr4-python3-runtime==4.9.3",
    "yacs==0.1.8",
    "portalocker",
    "cloudpickle",
    "tabulate",
    "termcolor",
]
# pip 26 refuses packages that name an address among their optional dependencies, as this one does
# among some that are not fetched here; its build script needs torch and setuptools.
TOOLS = ["pip<26", "setuptools<81"]
UNREACHABLE = 3
_NO_NETWORK = (
    "NewConnectionError",
    "ConnectTimeout",
    "Name or service",
    "Temporary failure",
    "ProxyError",
    "Network is unreachable",
    "getaddrinfo",
    "Max retries",
)


class UnreachableError(Exception):
    """The package index does not answer."""


def cache_folder() -> Path:
    """Folder of downloads, ``FOSSILEDIT_TEST_CACHE`` or the user's cache."""
    named = os.environ.get("FOSSILEDIT_TEST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "napari-fossiledit-tests"


def fetch(cache: Path) -> list[Path]:
    """Return the folders of detectron2 and of what it needs, fetching them the first time."""
    place = cache / f"detectron2-{SHA256[:12]}-py{sys.version_info[0]}{sys.version_info[1]}"
    if not place.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as name:
            _fill(Path(name))
            # In one step, so that a folder that is there is complete.
            shutil.move(str(Path(name) / "ready"), place)
    return [place / "source", place / "needed"]


class Native:
    """Native detectron2 in a process of its own; see ``native_detectron2_worker.py``.

    Used as a context manager: the process ends with it.
    """

    def __init__(self, path: str, threads: int = 1) -> None:
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
        worker = Path(__file__).with_name("native_detectron2_worker.py")
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            text=True,
        )

    def __call__(self, do: str, **values: Any) -> dict[str, Any]:
        """Give a command and wait for the answer."""
        self.process.stdin.write(json.dumps({"do": do, **values}, default=str) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.errors.seek(0)
        raise RuntimeError(f"native detectron2 ended at {do}:\n{self.errors.read()[-3000:]}")

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.errors.close()


def most_memory() -> int:
    """Most memory this process has held, in bytes; 0 where the system is not Linux.

    ``getrusage`` would tell the most of the process that started this one, if that was more.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(n.split()[1]) * 1024 for n in lines if n.startswith("VmHWM")), 0)


def _fill(folder: Path) -> None:
    tools, ready = folder / "tools", folder / "ready"
    _pip(["install", "--no-deps", "--target", str(tools), *TOOLS])
    _pip(["install", "--no-deps", "--target", str(ready / "needed"), *NEEDED])
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    flags = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", str(folder)]
    _pip(["download", *flags, "--requirement", str(wanted)], tools)
    _unpack(next(folder.glob("pb1*detectron2-0.6.tar.gz")), ready / "source")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the Python code, with an empty module for the compiled part."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{archive.name} has SHA-256 {found}, expected {SHA256}")
    with tarfile.open(archive) as content, tempfile.TemporaryDirectory() as name:
        content.extractall(name, filter="data")
        package = next(Path(name).glob("*/detectron2"))
        shutil.copytree(package, target / "detectron2")
    (target / "detectron2" / "_C.py").touch()


def _pip(arguments: list[str], path: Path | None = None) -> None:
    """Run pip, that of `path` if given."""
    command = [sys.executable, "-m", "pip", *arguments[:1], "--quiet", "--retries", "1"]
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    done = subprocess.run(
        [*command, *arguments[1:]], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    if any(sign in done.stderr for sign in _NO_NETWORK):
        raise UnreachableError(done.stderr.strip().splitlines()[-1])
    raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")


def main() -> None:
    """Print the folders, separated as in ``PYTHONPATH``."""
    cache = Path(sys.argv[1]) if len(sys.argv) > 1 else cache_folder()
    try:
        print(os.pathsep.join(str(folder) for folder in fetch(cache)))
    except UnreachableError as error:
        print(f"The package index cannot be reached: {error}", file=sys.stderr)
        raise SystemExit(UNREACHABLE) from error


if __name__ == "__main__":
    main()
