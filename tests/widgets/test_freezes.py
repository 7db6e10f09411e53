"""The window answers all the time, on the way that a user takes through it."""

from __future__ import annotations

import os
import sys

from tests.widgets.heartbeat import Heartbeat, whole_way

#: In seconds; a busy machine that shares its cores is only asked for the looser one.
_QUIET, _BUSY = 0.3, 5.0
#: The window is not there yet, or not any more: nothing that is on show freezes.
_UNSEEN = {"open the window", "close the window"}


def test_the_window_never_freezes(qapp, tmp_path):
    beat = Heartbeat()
    try:
        whole_way(beat, tmp_path, slices="0-3")
    finally:
        beat.stop()
        sys.stdout.write(f"\n{beat.table}\n")
    quiet = os.environ.get("FOSSILEDIT_QUIET_MACHINE")
    bound = _QUIET if quiet else _BUSY
    late = [gap.row for gap in beat.gaps if gap.wall_s > bound and gap.step not in _UNSEEN]
    assert len(beat.gaps) > 20
    assert not late, "\n".join(late)
