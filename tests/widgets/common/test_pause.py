"""A job that waits, and is told what the user looks at."""

from __future__ import annotations

import time
from dataclasses import replace

from napari_fossiledit.progress import Progress
from napari_fossiledit.widgets.common.job_panel import JobPanel


def follow(told, *, job):
    """Report the slice in focus until it is 5; note when it is to wait."""

    def paused():
        if job.paused():
            told.touch()
            return True
        return False

    waiting = replace(job, paused=paused)
    while job.focus() != 5:
        time.sleep(0.02)
        waiting.check()
        job.on_progress(Progress(0, 0, str(job.focus()), said="About 3 h."))
    return job.focus()


def test_a_job_waits_and_goes_on_with_what_is_looked_at(qtbot, tmp_path):
    panel, near, asked, found = JobPanel(), [2], [], []
    qtbot.addWidget(panel)

    def focus():
        asked.append(near[0])
        return near[0]

    told = tmp_path / "told"
    panel.start("Following", follow, told, pausable=True, focus=focus, then=found.append)
    assert not panel.pause.isHidden()
    qtbot.waitUntil(lambda: panel.text.text() == "About 3 h.\n2")
    panel.pause.click()
    assert panel.pause.text() == "Go on"
    assert panel.text.text() == "Paused. 2"
    qtbot.waitUntil(told.exists)
    near[0] = 5
    # Handed over before it is asked for again.
    qtbot.waitUntil(lambda: asked.count(5) > 2)
    assert found == []
    panel.pause.click()
    qtbot.waitUntil(lambda: found == [5])
    assert panel.pause.isHidden()
