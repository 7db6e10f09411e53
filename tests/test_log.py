"""The log: several processes append to one file, which is renamed only when one starts."""

import subprocess
import sys

from napari_fossiledit.log import log_file, read_log

WRITER = """
import logging, sys
from napari_fossiledit.log import start_logging
start_logging()
for number in range(2000):
    logging.getLogger("napari_fossiledit.test").info("line %s %s %s", number, sys.argv[1], "x" * 80)
"""


def test_no_line_is_lost_where_processes_write_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name]) for name in "abc"]
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert log_file().read_text().count("line ") == 6000
    assert "line 1999" in read_log()


def test_a_full_log_makes_room_when_a_process_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    log_file().parent.mkdir(parents=True)
    for text in ("first", "second", "third", "fourth"):
        log_file().write_text(text * 250_000)
        subprocess.run([sys.executable, "-c", WRITER, "a"], check=True)
    kept = sorted(p.name for p in log_file().parent.iterdir())
    assert kept == ["fossiledit.log", "fossiledit.log.1", "fossiledit.log.2"]
    assert log_file().with_name("fossiledit.log.2").read_text().startswith("third")
