"""The ``fossiledit`` command: what the window can do, the command line can do."""

import io
import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line."""
    # Threads that wait by spinning slow everything else on a laptop; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from napari_fossiledit.cli.adapter import CANCELLED
    from napari_fossiledit.cli.commands import app

    for stream in (sys.stdout, sys.stderr):
        # A file name may hold what the encoding of the console does not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:
        if end.code == CANCELLED:
            for stream in (sys.stdout, sys.stderr):
                # Ctrl-C ends what reads them, too.
                with suppress(OSError):
                    stream.flush()
            # A thread that still reads or computes a slice would be waited for.
            os._exit(CANCELLED)
        raise
