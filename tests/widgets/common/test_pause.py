"""A job that waits, and is told what the user looks at."""

from __future__ import annotations

import time

from napari_fossiledit.progress import Progress
from napari_fossiledit.widgets.common.job_panel import JobPanel


def follow(job):
    """Report the slice in focus until it is 5."""
    while job.focus() != 5:
        time.sleep(0.02)
        job.check()
        job.on_progress(Progress(0, 0, str(job.focus()), said="About 3 h."))
    return job.focus()


def test_a_job_waits_and_goes_on_with_what_is_looked_at(qtbot):
    panel, near, found = JobPanel(), [2], []
    qtbot.addWidget(panel)
    panel.start("Following", follow, pausable=True, focus=lambda: near[0], then=found.append)
    assert not panel.pause.isHidden()
    qtbot.waitUntil(lambda: panel.text.text() == "About 3 h.\n2", timeout=20_000)
    panel.pause.click()
    assert panel.pause.text() == "Go on"
    assert panel.text.text() == "Waiting. 2"
    # Until the other process has heard of it.
    qtbot.wait(400)
    near[0] = 5
    qtbot.wait(400)
    assert found == []
    panel.pause.click()
    qtbot.waitUntil(lambda: found == [5], timeout=20_000)
    assert panel.pause.isHidden()
