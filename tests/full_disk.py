"""A disk that is full after some bytes."""

import errno
import io
from pathlib import Path


def full_disk(monkeypatch, after):
    """Let writing fail as on a full disk, once some bytes are written."""
    left = after

    class Stream(io.FileIO):
        def write(self, data):
            nonlocal left
            left -= len(memoryview(data).cast("B"))
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    real = Path.open

    def opened(path, mode="r", *how, **more):
        return Stream(path, mode) if mode == "wb" else real(path, mode, *how, **more)

    monkeypatch.setattr(Path, "open", opened)
