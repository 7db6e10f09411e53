"""A process that is killed while it writes loses no finished slice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from napari_fossiledit.project import Ledger

ENDLESS_WRITER = """
import sys
from pathlib import Path
import numpy as np
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.project import Ledger

mask = Mask.from_array(np.random.default_rng(0).random((300, 300)) < 0.5)
ledger = Ledger(Path(sys.argv[1]))
for z in range(10**6):
    ledger.store("model:m:0", z, [Instance(z, "archaeocyathid", mask)] * 3)
    print(z, flush=True)
"""

READER = """
import os
import sys
from pathlib import Path
from napari_fossiledit.project import Ledger

if os.geteuid() == 0:
    os.setuid(65534)  # permissions do not bind root
with Ledger(Path(sys.argv[1]), read_only=True) as ledger:
    print(sorted(ledger.done("model:m:0")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_kill_9_loses_no_finished_slice(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS_WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        reported = [int(writer.stdout.readline()) for _ in range(25)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        reported = max([reported, *map(int, writer.stdout.read().split())])
    with Ledger(path) as ledger:
        done = ledger.done("model:m:0")
        assert set(range(reported + 1)) <= done
        assert ledger.counts("model:m:0") == dict.fromkeys(sorted(done), 3)
        ledger.store("model:m:0", len(done), [])


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_read_only_folder_is_read() -> None:
    # Not below tmp_path: other users may not look into that one.
    folder = Path(tempfile.mkdtemp(prefix="fossiledit-"))
    try:
        with Ledger(folder / "ledger.sqlite") as ledger:
            ledger.store("model:m:0", 3, [])
        for file in folder.iterdir():
            file.chmod(0o444)
        folder.chmod(0o555)
        command = [sys.executable, "-c", READER, str(folder / "ledger.sqlite")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.returncode) == ("[3]", 0), done.stderr
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
