"""Feature vectors of slices, computed once for each photograph and kept in the project."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import write_whole
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.agenda import FeatureParams
from napari_fossiledit.params.segment import IMAGENET, Device
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.stacks.window import ALONE, Window
from napari_fossiledit.workflows.shared.model_refs import EditRef, ModelRef, find_model, in_use
from napari_fossiledit.workflows.shared.seen import seen
from napari_fossiledit.workflows.shared.stack_values import StackValues

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.features import Extractor

Features = NDArray[np.float32]

FOLDER = "features"
"""Folder of the project with a file for each extractor; it may be removed at any time."""

_VERSION = 2
"""To be raised where the vectors of a model become others: those that were kept are not used."""

_SAVE_S = 20.0
"""Seconds between two savings: a file of 3 000 slices has 6 MB, so that not each slice is saved."""


_UNKNOWN = "slice "


@dataclass(frozen=True)
class Eye:
    """What looks at slices of one project.

    Attributes
    ----------
    name
        Of the model, for the user.
    key
        Text that is another one wherever the vectors may be others; known without torch.
    load
        Loads it.
    ref
        The model; None for ImageNet features.
    notes
        What was assumed, in sentences.
    window
        What it sees with each slice.
    """

    name: str
    key: str
    load: Callable[[], Extractor]
    ref: ModelRef | None = None
    notes: tuple[str, ...] = ()
    window: Window = ALONE

    @classmethod
    def of(cls, home: Project, project: Project, params: FeatureParams) -> Eye:
        """Choose a model of project `home` to look at slices of `project`.

        Raises
        ------
        FossilError
            Where there is no such model.
        """
        chosen = params.model or in_use(home) or IMAGENET
        if chosen == IMAGENET:
            said = "No model is in use: features of a network that saw ImageNet are taken."
            eye = cls(IMAGENET, f"imagenet-{_VERSION}", lambda: _imagenet(params.device))
            return eye if params.model else replace(eye, notes=(said,))
        ref = _shown(find_model(home, chosen), project)
        pixel = project.geometry.pixel_size_um
        black_white = ref.shown and (ref.shown.low, ref.shown.high)
        key = f"pyramid-{_VERSION} {ref.model_hash} {black_white} {pixel}"
        load = partial(_pyramid, ref, params.device)
        return cls(ref.name, key, load, ref, ref.notes, ref.window)


def _shown(ref: ModelRef, project: Project) -> ModelRef:
    """Return a model as it is shown the values of the stack of any project."""
    if isinstance(ref, EditRef):
        return replace(ref, parent=_shown(ref.parent, project))
    return replace(ref, values=StackValues(project))


def _imagenet(device: Device) -> Extractor:
    from napari_fossiledit.models.inference.devices import pick_device
    from napari_fossiledit.models.inference.features import ImageNetFeatures

    return ImageNetFeatures(pick_device(device))


def _pyramid(ref: ModelRef, device: Device) -> Extractor:
    from napari_fossiledit.models.inference.features import PyramidFeatures

    return PyramidFeatures(ref.load(device))


@dataclass(frozen=True)
class Seen:
    """Features of slices.

    Attributes
    ----------
    slices
        The slices that have any.
    features
        (n, q) their vectors.
    computed
        How many were not kept from before.
    notes
        Which slices were left out.
    """

    slices: tuple[int, ...]
    features: Features
    computed: int
    notes: tuple[str, ...] = ()


def look_at(project: Project, eye: Eye, slices: Sequence[int], job: Job) -> Seen:
    """Return the features of slices; those of photographs that were not seen yet are computed.

    What is computed is kept, also where the user stops. One photograph is held at a time. Blank
    photographs are left out: they are unlike all others, and nobody needs to trace them.

    Raises
    ------
    FossilError
        Where a slice cannot be read, or the user stops.
    """
    file = project.part(FOLDER) / f"{hashlib.sha256(eye.key.encode()).hexdigest()[:16]}.npz"
    kept = _read(file.read_bytes()) if file.is_file() else {}
    contents, extractor = project.contents, None
    contents.check({n for z in slices for n in eye.window.near(z, project.shape[0])})

    def name(z: int) -> str:
        # What has no file to be recognised by is looked at each time.
        near = [contents.of(n) for n in eye.window.near(z, project.shape[0])]
        return " ".join(near) if all(near) else f"{_UNKNOWN}{z}"

    missing = [z for z in slices if name(z) not in kept]
    saved, fresh = time.monotonic(), False
    try:
        for z in job.tracked(missing, len(missing), "Looking at slice"):
            image, vector = contents.read(z), None
            if not is_blank(image):
                extractor = extractor or eye.load()
                vector = extractor.features(
                    seen(project, eye.window, z),
                    pixel_size_um=project.geometry.pixel_size_um,
                    cancel=job.cancelled,
                )
            kept[name(z)], fresh = vector, True
            if time.monotonic() > saved + _SAVE_S and not project.read_only:
                write_whole(file, _written(kept))
                saved, fresh = time.monotonic(), False
    finally:
        if fresh and not project.read_only:
            write_whole(file, _written(kept))
    found = {z: vector for z in slices if (vector := kept[name(z)]) is not None}
    blank = sorted(set(slices) - found.keys())
    vectors = np.stack([*found.values()]) if found else np.empty((0, 0), np.float32)
    return Seen(tuple(found), vectors, len(missing), (blank_note(blank),) if blank else ())


def is_blank(image: NDArray[Any]) -> bool:
    """Return whether a photograph shows nothing: all its values are the same."""
    return bool(image.min() == image.max())


def blank_note(slices: Iterable[int]) -> str:
    """Say that slices were left out, as they are blank."""
    return f"Slices {format_slices(sorted(slices))} are blank photographs: they are left out."


def all_blank(slices: Sequence[int]) -> FossilError:
    """Return the error of a choice among blank photographs."""
    return FossilError("All photographs to choose from are blank", found=format_slices(slices))


def _read(data: bytes) -> dict[str, Features | None]:
    """Read vectors by the content of their photographs; nothing where the file is damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            blank = dict.fromkeys(file["blank"].tolist())
            return blank | dict(zip(file["contents"].tolist(), file["features"], strict=True))
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
        # They are computed again.
        return {}


def _written(kept: Mapping[str, Features | None]) -> bytes:
    known = {content: v for content, v in kept.items() if not content.startswith(_UNKNOWN)}
    found = {content: vector for content, vector in known.items() if vector is not None}
    stream = io.BytesIO()
    np.savez(
        stream,
        blank=np.array([*(known.keys() - found.keys())], dtype=str),
        contents=np.array([*found], dtype=str),
        features=np.array([*found.values()], dtype=np.float32),
    )
    return stream.getvalue()
