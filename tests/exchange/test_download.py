"""Fetching a file from a server of this machine that can be cut, moved, or made to lie."""

import hashlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.exchange import download as module
from napari_fossiledit.exchange.download import download
from napari_fossiledit.progress import QUIET, Job

CONTENT = bytes(n * n % 251 for n in range(3_000_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
DIGEST = f"sha256:{SHA256[:8]}"


class Handler(BaseHTTPRequestHandler):
    """Serves `CONTENT` at any path; the server says how it misbehaves."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if server.status:
            self.send_error(server.status)
            return
        start, total = 0, len(server.content)
        asked = self.headers.get("Range") if server.ranges else None
        if asked:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= total > 0 and asked:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        start += server.ahead if asked or not server.ranges else 0
        if asked or (server.ahead and not server.ranges):
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.length:
            self.send_header("Content-Length", server.length)
        elif server.length is None:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self.wfile.write(server.content[start : server.cut or total])
        self.wfile.flush()
        server.waiting.wait(20)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.content, made.status, made.cut, made.ranges, made.asked = CONTENT, 0, 0, True, []
    made.ahead = 0
    made.waiting, made.length = threading.Event(), None
    made.waiting.set()
    made.url = f"http://127.0.0.1:{made.server_port}/weights.pth"
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.waiting.set()
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "weights.pth"


def fetch(server, path, *, size=3_000_000, digest=DIGEST, job=QUIET):
    return download(server.url, path, size, digest, job)


def names(path):
    return {p.name for p in path.parent.iterdir()} - {f"{path.name}.lock"}


def said(server, path, **options):
    with pytest.raises(FossilError) as caught:
        fetch(server, path, **options)
    assert not path.exists()
    return str(caught.value)


def test_a_file_appears_whole_with_progress_in_megabytes_and_the_time_left(server, path):
    reports = []
    assert fetch(server, path, job=Job(reports.append)) == SHA256
    assert path.read_bytes() == CONTENT
    assert names(path) == {"weights.pth"}
    assert [r.done for r in reports] == [0, 1, 2, 3]
    assert {r.total for r in reports} == {3}
    assert all(r.eta_s is not None and r.eta_s >= 0 for r in reports)
    assert reports[0].message == "Fetching weights.pth (MB)"


def test_a_cut_download_goes_on_where_it_ended(server, path):
    server.cut = 2_000_000
    text = said(server, path)
    part = path.with_name("weights.pth.part")
    kept = part.stat().st_size
    assert 0 < kept <= 2_000_000
    assert f"Run it again to go on after the {kept / 1e6:.1f} MB" in text
    assert "give its path" in text
    server.cut, reports = 0, []
    assert fetch(server, path, job=Job(reports.append)) == SHA256
    assert server.asked == [None, f"bytes={kept}-"]
    assert [r.done for r in reports] == [2, 3]
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, path):
    server.cut = 2_000_000
    said(server, path)
    server.cut, server.ranges = 0, False
    assert fetch(server, path) == SHA256
    assert path.read_bytes() == CONTENT


def test_an_answer_that_begins_beyond_the_part_leaves_no_hole(server, path):
    server.cut = 2_000_000
    said(server, path)
    server.cut, server.ahead = 0, 1000
    assert fetch(server, path) == SHA256
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 3
    path.unlink()
    server.ranges = False
    assert "begins at byte 1000" in said(server, path)
    assert len(server.asked) == 4


@pytest.mark.parametrize("length", ["", "unknown"])
def test_where_no_length_is_told_the_digest_says_whether_a_file_is_whole(server, path, length):
    server.length = length
    assert fetch(server, path, size=2_990_000) == SHA256
    path.unlink()
    server.cut, server.ranges = 2_000_000, False
    assert "2000000 of about 2990000 bytes" in said(server, path, size=2_990_000)
    server.cut = 0
    assert fetch(server, path, size=2_990_000) == SHA256


def test_a_range_that_nobody_asked_for_is_no_reason_to_look_for_a_part(server, path):
    server.status = 416
    assert "found 416" in said(server, path)


@pytest.mark.parametrize("more", [b"", b"xyz"], ids=["whole", "too long"])
def test_a_part_that_is_whole_is_taken_and_one_too_long_is_not(server, path, more):
    path.parent.mkdir()
    path.with_name("weights.pth.part").write_bytes(CONTENT + more)
    assert fetch(server, path) == SHA256
    assert len(server.asked) == (2 if more else 1)


def test_another_content_is_removed(server, path):
    server.content = CONTENT[:-1] + b"?"
    text = said(server, path)
    assert (
        f"expected sha256 {SHA256[:8]}...; found {hashlib.sha256(server.content).hexdigest()}"
        in (text)
    )
    assert names(path) == set()
    server.content = CONTENT
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert fetch(server, path, digest=f"md5:{md5[:6]}") == SHA256


def test_another_size_is_refused_before_a_byte_is_written(server, path):
    server.content = b"<html>Please log in</html>"
    text = said(server, path)
    assert "expected about 3000000 bytes; found 26 bytes" in text
    assert "asks for a login" in text
    assert names(path) == set()


def test_what_the_server_refuses_is_told(server, path):
    server.status = 404
    text = said(server, path)
    assert server.url in text
    assert "found 404 Not Found" in text
    assert "give its path" in text


def test_offline_is_told(server, path):
    server.url = "http://127.0.0.1:9/weights.pth"
    text = said(server, path)
    assert "http://127.0.0.1:9/weights.pth could not be reached" in text
    assert "expected a connection to the internet" in text
    assert "Connect this computer and run it again. Or fetch the file elsewhere" in text
    server.url = "http://nowhere.invalid/weights.pth"
    assert "could not be reached" in said(server, path)


def test_a_cancel_keeps_the_part(server, path):
    reports = []
    job = Job(reports.append, lambda: bool(reports) and reports[-1].done >= 1)
    with pytest.raises(CancelledError):
        fetch(server, path, job=job)
    assert names(path) == {"weights.pth.part"}
    assert 1_000_000 <= path.with_name("weights.pth.part").stat().st_size < 2_000_000
    assert fetch(server, path) == SHA256


def test_a_full_disk_is_told_before_and_while_it_fills(server, path, monkeypatch):
    usage = module.shutil.disk_usage(path.parent.parent)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=2_000_000))
    assert "expected 3 MB; found 2 MB free" in said(server, path)
    monkeypatch.undo()
    # A device that takes nothing.
    path.with_name("weights.pth.part").symlink_to("/dev/full")
    assert "The disk is full: free some space" in said(server, path)


def test_one_file_is_fetched_by_one_process(server, path):
    server.waiting.clear()
    server.cut = 1_000_000
    code = (
        "import sys; from pathlib import Path\n"
        "from napari_fossiledit.exchange.download import download\n"
        "from napari_fossiledit.progress import Job\n"
        "say = Job(lambda p: print(p.done, flush=True))\n"
        f"download(sys.argv[1], Path(sys.argv[2]), {len(CONTENT)}, {DIGEST!r}, say)"
    )
    command = [sys.executable, "-c", code, server.url, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"0\n"
        assert "is being fetched by another process" in said(server, path)
        other.kill()
    server.waiting.set()
    server.cut = 0
    # A process that was killed keeps nothing but the part.
    assert fetch(server, path) == SHA256
    assert server.asked[1].startswith("bytes=")
