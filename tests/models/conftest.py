"""Tiny networks are fastest, and exactly repeatable, on one thread; native detectron2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
UNREACHABLE = 3


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def native_path() -> str:
    """Folders with native detectron2, fetched once; no test process ever imports it."""
    command = [sys.executable, str(SCRIPTS / "native_detectron2.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == UNREACHABLE:
        pytest.skip(f"native detectron2 could not be fetched: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def native(native_path):
    """A process with native detectron2 that answers commands (see the script)."""
    sys.path.insert(0, str(SCRIPTS))
    from native_detectron2 import Native

    with Native(native_path, threads=2) as process:
        yield process
    sys.path.remove(str(SCRIPTS))
