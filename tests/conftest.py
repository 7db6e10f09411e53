"""What every test may use, and what no test may touch: the user's settings and display."""

from __future__ import annotations

import functools
import gc
import inspect
import os
import pkgutil
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# On a busy machine a deadline decides by the other programs.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")

REPOSITORY = Path(__file__).resolve().parents[1]
WINDOW_FIXTURES = {"make_napari_viewer", "qapp", "qtbot"}

# Read when napari, Qt or OpenMP are first imported, so they are set before any test is.
_SETTINGS = tempfile.TemporaryDirectory(prefix="fossiledit-tests-")
os.environ["XDG_CACHE_HOME"] = str(Path(_SETTINGS.name) / "cache")
os.environ["NAPARI_CONFIG"] = str(Path(_SETTINGS.name) / "settings.yaml")
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, str(max(1, min(2, (os.cpu_count() or 1) // _WORKERS))))
if sys.platform == "linux":
    # napari draws with OpenGL, which Qt's "offscreen" platform does not have.
    os.environ["QT_QPA_PLATFORM"] = "xcb"


def _windows_can_open() -> bool:
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or shutil.which("Xvfb"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests that open a window last, and skip them where Qt would abort for want of a display.

    Software OpenGL brings an LLVM of its own: torch's triton crashes when it is loaded after it.
    Whole files move, because several processes share the tests out file by file, in this order.
    The long ways through the whole window lie above those of its rooms and come first of them: a
    process that began one when the others end would go on alone.
    """
    with_windows = {item.path for item in items if _opens_window(item)}

    def order(item: pytest.Item) -> tuple[int, bool]:
        depth = len(item.path.parts) if item.path in with_windows else 0
        return depth, _opens_window(item)

    items.sort(key=order)
    if _windows_can_open():
        return
    skip = pytest.mark.skip(reason="no display and no Xvfb (apt package xvfb)")
    for item in filter(_opens_window, items):
        item.add_marker(skip)


def _opens_window(item: pytest.Item) -> bool:
    return bool(WINDOW_FIXTURES & set(getattr(item, "fixturenames", ())))


def pytest_unconfigure() -> None:
    """Remove the temporary settings."""
    _SETTINGS.cleanup()


@pytest.fixture(scope="session")
def qapp(qapp: Any) -> Any:
    """Take all that was made before the first window out of the garbage collection.

    napari collects whenever a layer is removed, and searches every object of torch each time.
    """
    gc.collect()
    gc.freeze()
    return qapp


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with data that nobody of this project made; it is not part of the repository."""
    named = os.environ.get("FOSSILEDIT_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder} (set FOSSILEDIT_TEST_DATA)")
    return folder


# ---------------------------------------------------- a sample reef as a project, made once


@pytest.fixture(scope="session")
def blank_segmenter() -> Callable[..., Any]:
    """Make a model of random weights: `blank_segmenter(seed=0, **changes of its network)`.

    Its maps have a quarter of the usual channels: it predicts five times as fast as `lite`.
    """
    import torch

    from napari_fossiledit.models.inference.preprocessing import Preprocessing
    from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
    from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
    from napari_fossiledit.models.network.spec import default_spec

    def make(seed: int = 0, **changes: Any) -> MaskRcnnSegmenter:
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        small = {"channels": 32, "box_width": 64, "mask_channels": 32, **changes}
        spec = default_spec("lite", ("archaeocyathid",)).model_copy(update=small)
        return MaskRcnnSegmenter(MaskRcnn(spec), Preprocessing())

    return make


@pytest.fixture(scope="session")
def make_home(
    tmp_path_factory: pytest.TempPathFactory, blank_segmenter: Callable[..., Any]
) -> Callable[..., Path]:
    """Write ``reef/``, and ``tiny.fossil`` in which every slice is traced, with the model blank."""
    from napari_fossiledit.models.files.registry import save_model
    from napari_fossiledit.params.annotations import ImportParams
    from napari_fossiledit.params.sample import ReefParams
    from napari_fossiledit.params.stack import NewParams
    from napari_fossiledit.workflows.annotate.files import import_annotations
    from napari_fossiledit.workflows.sample import reef as sample
    from napari_fossiledit.workflows.stack import new

    def make(**reef: Any) -> Path:
        home = tmp_path_factory.mktemp("home")
        sample.run(home / "reef", ReefParams(**reef))
        path = home / "tiny.fossil"
        new.run(path, home / "reef" / "images", NewParams(pixel_size=72.7, slice_spacing=500))
        import_annotations(path, ImportParams(file=home / "reef" / "annotations.json"))
        save_model(blank_segmenter(), path / "models" / "blank")
        return home

    return make


@pytest.fixture(scope="session")
def reef_home(make_home: Callable[..., Path]) -> Path:
    """Such a folder, of 5 slices of 128 x 96 pixels, to be read only; a file may have its own."""
    return make_home(slices=5, size=128, seed=3, cups_per_cm3=6)


@pytest.fixture
def tiny_reef(reef_home: Path, tmp_path: Path) -> Path:
    """A copy of the sample reef which a test may damage."""
    return shutil.copytree(reef_home / "reef", tmp_path / "reef")


@pytest.fixture
def reef_project(reef_home: Path, tiny_reef: Path) -> Path:
    """A copy of the project which a test may change, without the model."""
    path = tiny_reef.parent / "tiny.fossil"
    return shutil.copytree(reef_home / path.name, path, ignore=shutil.ignore_patterns("blank"))


@pytest.fixture
def blank_model(reef_home: Path, reef_project: Path) -> str:
    """Name of a model of `reef_project` with random weights, the same every time."""
    blank = Path("models") / "blank"
    shutil.copytree(reef_home / reef_project.name / blank, reef_project / blank)
    return blank.name


# ------------------------------------------------------------------------------------ fakes


class CheckingPatch(pytest.MonkeyPatch):
    """Lets a fake take only the arguments that the function takes in whose place it is.

    A fake that takes anything hides a caller that was left behind when a signature changed.
    """

    def setattr(self, target: Any, name: Any, value: Any = ..., raising: bool = True) -> None:
        """Set an attribute until the end of the test, as `pytest.MonkeyPatch.setattr`."""
        if value is ...:
            path, value = target, name
            module, _, name = path.rpartition(".")
            target = pkgutil.resolve_name(module)
        original = getattr(target, name, None)
        if callable(original) and callable(value) and not inspect.isclass(value):
            value = _checked(original, value, in_class=inspect.isclass(target))
        super().setattr(target, name, value, raising)


def _checked(original: Callable[..., Any], fake: Callable[..., Any], *, in_class: bool) -> Any:
    try:
        signature = inspect.signature(original)
    except ValueError:  # written in C, without a signature
        return fake
    # In a class a function gets `self`, while a bound method and a builtin get none.
    drops_self = in_class and inspect.isfunction(original) and not inspect.isfunction(fake)

    @functools.wraps(fake, updated=())
    def checked(*args: Any, **kwargs: Any) -> Any:
        signature.bind(*args, **kwargs)
        return fake(*args[drops_self:], **kwargs)

    checked.__signature__ = signature
    return checked


@pytest.fixture
def monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    """pytest's own, with fakes that are held to the signature of what they replace."""
    patch = CheckingPatch()
    yield patch
    patch.undo()
