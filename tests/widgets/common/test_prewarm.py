"""What is loaded in a thread before it is needed."""

from __future__ import annotations

from pint.registry import ApplicationRegistry, LazyRegistry

from napari_fossiledit.widgets.common.prewarm import _read_units


def test_units_are_read_beforehand_and_never_changed_under_those_in_use():
    shared = ApplicationRegistry(LazyRegistry())
    _read_units(shared)
    first = shared.get()
    assert not isinstance(first, LazyRegistry)
    assert str(first.Quantity(1500, "um").to("mm")) == "1.5 millimeter"
    _read_units(shared)
    assert shared.get() is first
