"""How masks look: one colour for an instance in every layer and in 3D, as a fill or an outline."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap
from numpy.typing import NDArray
from pydantic import PrivateAttr
from qtpy.QtCore import QObject, QTimer, Signal

from napari_fossiledit.masks import Instance
from napari_fossiledit.perturb.mud import ROCK_CLASS
from napari_fossiledit.widgets.canvas.palette import (
    COUNT,
    DEFAULT,
    FILL,
    Floats,
    boxes_of,
    choose_indices,
    choose_palette,
    closeness,
    overlaps,
    rock_colours,
    specimen_indices,
)
from napari_fossiledit.widgets.common.compat import RIM, camera_of, draw_with, refresh_box
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.shared.specimens import SpecimenKey

Box = tuple[int, int, int, int]
Texture = NDArray[np.uint8]

# Ids are folded into a table of this length: two ids of one slice never lie that far apart.
_FOLD = 2**20
# Indices in the texture behind those of the palette: the outline of the picked instance.
_LIGHT, _DARK = COUNT + 1, COUNT + 2
_NO_COLOUR = -1
# Widths of outlines in pixels of the screen: of predictions and the user's own, of the picked one;
# and of the dark rim of the user's own where they are filled.
_WIDTH, _PICKED_WIDTH, _RIM_WIDTH = (1.5, 3.0), 3.0, 2.0
# How far boxes have to overlap to be the same fossil in another layer, or in the next slice.
_SAME, _NEXT = 0.5, 0.3
# Rows and columns that are drawn at once: they stay in the CPU's cache, and where there is no
# instance nothing is done.
_BLOCK = (64, 512)
# So many parts of a slice take as long to be drawn as the slice.
_MANY = 50
# Milliseconds after the last turn of the wheel.
_ZOOMED_MS = 150


class Tints:
    """Index in the palette by id; an id that no instance has yet gets one of them as well."""

    def __init__(self) -> None:
        self.table: Texture = np.resize(np.arange(1, COUNT + 1, dtype=np.uint8), _FOLD)
        self.table[0] = 0
        self.known: set[int] = set()

    def get(self, id_: int) -> int:
        """Return the index of an id in the palette."""
        return int(self.table[id_ % _FOLD]) - 1 if id_ % _FOLD else 0

    def set(self, id_: int, index: int) -> bool:
        """Set the index of an id; return whether it had another one."""
        changed = self.get(id_) != index
        self.known.add(id_)
        if id_ % _FOLD:
            self.table[id_ % _FOLD] = index + 1
        return changed

    def texture(self, values: NDArray[Any]) -> Texture:
        """Return indices in the texture, 0 where there is no instance."""
        return np.take(self.table, values & np.uint32(_FOLD - 1))


class TintedColormap(CyclicLabelColormap):  # type: ignore[misc]
    """Colours of ids as `Tints` have them, which may change while the colormap is in use."""

    _tints: Tints = PrivateAttr(default_factory=Tints)

    @classmethod
    def of(cls, tints: Tints, rgb: Floats) -> TintedColormap:
        """Return a colormap that shows a palette."""
        colours = np.ones((COUNT + 3, 4), dtype=np.float32)
        colours[0] = 0
        colours[1:_LIGHT, :3] = rgb
        colours[_DARK, :3] = 0
        made = cls(colors=colours)
        made._tints = tints
        return made

    def _data_to_texture(self, values: Any) -> Any:
        """Return what napari sends to the graphics card."""
        if isinstance(values, np.ndarray):
            return self._tints.texture(values)
        return np.uint8(self._tints.table[int(values) % _FOLD])

    def map(self, values: Any) -> NDArray[Any]:
        """Return colours (..., 4) of ids."""
        return np.asarray(self.colors[self._tints.table[np.asarray(values, np.int64) % _FOLD]])


class Colours(QObject):
    """Colours of the instances of the open project.

    An instance keeps the colour that it was given first. Another layer, or the next slice, gives
    what lies at the same place the same colour; specimens have one in all slices and in 3D.

    Signals
    -------
    changed
        Palette or colours of specimens changed.
    mode_changed
        Outlines are shown in place of fills, or fills again.
    chosen_changed
        Others are chosen, see `choose`.

    Attributes
    ----------
    rgb
        The palette (10, 3), from 0 to 1.
    outlined
        Whether outlines are shown in place of fills.
    specimens
        Index in the palette of each specimen.
    chosen_specimens
        Those that are chosen; empty: none.
    """

    changed = Signal()
    mode_changed = Signal()
    chosen_changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = weakref.ref(session)
        self.rgb, self.outlined = DEFAULT, False
        self.specimens: dict[SpecimenKey, int] = {}
        self._opacity: dict[tuple[str, bool], float] = {}
        self._picked: tuple[str, int] | None = None
        self._chosen = np.zeros(0, np.uint32)
        self.chosen_specimens: frozenset[SpecimenKey] = frozenset()
        self._layers: weakref.WeakSet[Labels] = weakref.WeakSet()
        # napari may read from a thread of its own.
        self._lock = threading.RLock()
        self._rock, self._linked = JobRunner(self), JobRunner(self)
        self._zoomed = QTimer(self)
        self._zoomed.setSingleShot(True)
        self._zoomed.setInterval(_ZOOMED_MS)
        self._zoomed.timeout.connect(self._fit_outlines)
        self._forget()
        weak = weakref.ref(self)

        def on_zoom(_: object) -> None:
            live = weak()
            if live is not None:
                live._zoomed.start()

        camera_of(session.viewer).events.zoom.connect(on_zoom)
        session.project_changed.connect(self.look_at_project)
        session.specimens_changed.connect(self._look_at_specimens)

    def _forget(self) -> None:
        self._tints: dict[str, Tints] = {}
        # Of each slice: box and index of what has been shown there, by tints and id.
        self._places: dict[int, dict[tuple[str, int], tuple[Box, int, bool]]] = {}
        self._of_specimens: set[int] = set()
        self.specimens = {}

    # ------------------------------------------------------------------ layers

    def dress(self, layer: Labels, look: str, tints: str = "") -> None:
        """Give a layer these colours, and the opacity that its kind had last.

        Parameters
        ----------
        look
            Kind of layer, as far as opacity is concerned.
        tints
            Whose ids the layer shows; empty: the ledger's.
        """
        layer.metadata.update({_LOOK: look, _TINTS: tints, RIM: 0})
        layer.colormap = TintedColormap.of(self._of(tints), self.rgb)
        draw_with(layer, lambda raw, part: self._drawn(layer, raw, part))
        self._dress_again(layer)
        layer.events.opacity.connect(lambda _: self._keep_opacity(layer))
        self._layers.add(layer)

    def _keep_opacity(self, layer: Labels) -> None:
        self._opacity[layer.metadata[_LOOK], self.outlined] = layer.opacity

    def _dress_again(self, layer: Labels) -> None:
        default = 1.0 if self.outlined else FILL
        layer.opacity = self._opacity.get((layer.metadata[_LOOK], self.outlined), default)
        layer.contour = self._outline(layer) if self.outlined else 0

    def toggle(self) -> None:
        """Show outlines in place of fills, or fills again."""
        self.outlined = not self.outlined
        for layer in self._layers:
            self._dress_again(layer)
        self.mode_changed.emit()

    def _fit_outlines(self) -> None:
        """Keep outlines as thick on the screen as they were."""
        for layer in self._layers:
            wanted = self._outline(layer)
            if self.outlined and layer.contour != wanted:
                layer.contour = wanted
            elif self._outlined(layer).size or layer.metadata[RIM] != self._rim(layer):
                layer.refresh(extent=False)

    def _outline(self, layer: Labels) -> int:
        return self._thickness(layer, _WIDTH[layer.metadata[_LOOK] == "labels"])

    def _rim(self, layer: Labels) -> int:
        """Return the width of the dark rim of fills: the user's own have one, predictions none."""
        own = layer.metadata[_LOOK] == "labels"
        return self._thickness(layer, _RIM_WIDTH) if own and not self.outlined else 0

    def _thickness(self, layer: Labels, width: float) -> int:
        """Return a width on the screen in pixels of a layer."""
        session = self._session()
        zoom = camera_of(session.viewer).zoom if session is not None else 1.0
        return max(1, round(width / max(zoom * float(layer.scale[-1]), 1e-9)))

    def linked_specimen(self, instance: Instance) -> SpecimenKey | None:
        """Return the specimen that an instance is a section of in 3D: what was linked last."""
        if instance.specimen is None or instance.id not in self._of_specimens:
            return None
        return SpecimenKey(instance.class_name, instance.specimen)

    def choose(
        self, instances: Collection[Instance], specimens: Collection[SpecimenKey] = ()
    ) -> None:
        """Draw a bright outline around instances of the ledger; none: around nothing.

        Their specimens and `specimens` keep their colours in 3D, and others are pale.
        """
        ids = sorted(i.id or 0 for i in instances)
        before, self._chosen = self._chosen, np.array(ids, np.uint32)
        linked = (self.linked_specimen(i) for i in instances)
        self.chosen_specimens = frozenset([*specimens, *(n for n in linked if n is not None)])
        session = self._session()
        z = session.slice if session is not None else 0
        changed = {("", int(id_)) for id_ in (*before, *self._chosen)}
        boxes = [box for key, (box, _, _) in self._places.get(z, {}).items() if key in changed]
        if len(boxes) > _MANY:
            y0, x0 = np.min(boxes, axis=0)[:2].tolist()
            y1, x1 = np.max(boxes, axis=0)[2:].tolist()
            boxes = [(y0, x0, y1, x1)]
        for layer in self._layers:
            if session is not None and layer in session.viewer.layers and layer.visible:
                for box in boxes:
                    refresh_box(layer, self._around(layer, box, session.current.slice_shape))
        self.chosen_changed.emit()

    def _drawn(self, layer: Labels, raw: NDArray[Any], part: tuple[slice, ...] | None) -> Texture:
        """Return the texture of a slice, or of a part of it.

        napari's own outlines take 0.3 s on a slice of 4 megapixels.
        """
        if raw.ndim != 2:
            return np.asarray(layer.colormap._data_to_texture(raw))
        rows, columns = part or (slice(0, raw.shape[0]), slice(0, raw.shape[1]))
        thick, outlined = self._thickness(layer, _PICKED_WIDTH), self._outlined(layer)
        rim = layer.metadata[RIM] = self._rim(layer)
        halo = max(int(layer.contour), rim, 2 * thick if outlined.size else 0)
        drawn = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        for y in range(rows.start, rows.stop, _BLOCK[0]):
            top = max(y - halo, 0)
            band = raw[top : min(y + _BLOCK[0], rows.stop) + halo]
            # Most of a slice is rock.
            if not band.any():
                continue
            for x in range(columns.start, columns.stop, _BLOCK[1]):
                left = max(x - halo, 0)
                ids = band[:, left : min(x + _BLOCK[1], columns.stop) + halo]
                if not ids.any():
                    continue
                texture = self._textured(layer, ids, rim)
                if outlined.size:
                    marked = _mark(texture, np.isin(ids, outlined), thick)
                    if marked is not None:
                        _note_marked(layer, marked, (top, left))
                block = drawn[y - rows.start :, x - columns.start :][: _BLOCK[0], : _BLOCK[1]]
                inner = texture[y - top :, x - left :]
                block[...] = inner[: block.shape[0], : block.shape[1]]
        return drawn

    def _textured(self, layer: Labels, ids: NDArray[Any], rim: int) -> Texture:
        """Return the texture of a part of a slice without what is picked."""
        texture: Texture = layer.colormap._data_to_texture(ids)
        if layer.contour:
            texture = np.where(_border(ids, int(layer.contour)), texture, np.uint8(0))
        if rim:
            texture[_border(ids, rim) & (texture > 0)] = _DARK
        return texture

    def _outlined(self, layer: Labels) -> NDArray[np.uint32]:
        """Return the ids of a layer that are picked or chosen."""
        tints = layer.metadata[_TINTS]
        chosen = self._chosen if not tints else self._chosen[:0]
        if self._picked is None or self._picked[0] != tints:
            return chosen
        return np.append(chosen, np.uint32(self._picked[1]))

    # ----------------------------------------------------------------- colours

    def _of(self, tints: str) -> Tints:
        # Not `setdefault`: it would make a table of a megabyte whenever a colour is asked for.
        if tints not in self._tints:
            self._tints[tints] = Tints()
        return self._tints[tints]

    def tint(self, z: int, instances: Sequence[Instance], tints: str = "") -> list[Box]:
        """Choose the colours of instances that have none yet; return the boxes of those changed.

        The rock face gets none: it would cover the photograph.

        Parameters
        ----------
        instances
            All of slice `z` that a layer shows.
        """
        with self._lock:
            of, places = self._of(tints), self._places.setdefault(z, {})
            changed = [
                i.mask.box
                for i in instances
                if i.class_name == ROCK_CLASS and i.id and of.set(i.id, _NO_COLOUR)
            ]
            shown = [i for i in instances if i.id is not None and i.class_name != ROCK_CLASS]
            ids = [i.id or 0 for i in shown]
            if all(id_ in of.known and (tints, id_) in places for id_ in ids):
                return changed
            boxes, areas = boxes_of(shown)
            preferred, liking = self._preferred(z, boxes, [of.get(id_) for id_ in ids])
            fixed = [n for n, id_ in enumerate(ids) if id_ in of.known]
            for n in fixed:
                preferred[n] = of.get(ids[n])
            order = sorted(range(len(ids)), key=lambda n: -liking[n])
            chosen = choose_indices(closeness(boxes, areas), preferred, order, fixed)
            for id_, index, row in zip(ids, chosen, boxes.tolist(), strict=True):
                box = (row[0], row[1], row[2], row[3])
                if of.set(id_, index):
                    changed.append(box)
                places[tints, id_] = (box, index, id_ in self._of_specimens)
            return changed

    def _preferred(
        self, z: int, boxes: NDArray[np.int64], defaults: list[int]
    ) -> tuple[list[int], list[float]]:
        """Return the index of what lies at the same place, and how much that counts."""
        preferred, liking = list(defaults), [0.0] * len(defaults)
        for at, enough, bonus in ((z - 1, _NEXT, 0.0), (z + 1, _NEXT, 0.0), (z, _SAME, 2.0)):
            there = list(self._places.get(at, {}).values())
            if not there or not len(boxes):
                continue
            common = overlaps(boxes, np.array([box for box, _, _ in there], dtype=np.int64))
            common += np.where(common >= enough, [bonus + linked for _, _, linked in there], 0)
            for n, best in enumerate(common.argmax(axis=1)):
                if common[n, best] >= max(enough, liking[n]):
                    preferred[n], liking[n] = there[best][1], float(common[n, best])
        return preferred, liking

    def forget(self, tints: str) -> None:
        """Drop the colours of ids that will be used for other instances."""
        with self._lock:
            self._of(tints).known.clear()
            for places in self._places.values():
                for key in [key for key in places if key[0] == tints]:
                    del places[key]

    def specimen(self, key: SpecimenKey) -> tuple[float, float, float]:
        """Return the colour of a specimen, from 0 to 1."""
        red, green, blue = self.rgb[self.specimens.get(key, key.specimen % COUNT)].tolist()
        return red, green, blue

    def pick(self, layer: Labels | None, instance: Instance | None = None) -> None:
        """Draw a bright outline around an instance of a layer; None: around nothing."""
        self._picked = None
        if layer is not None and instance is not None:
            self._picked = layer.metadata[_TINTS], instance.id or 0
        session = self._session()
        # Not whole slices: each takes 0.2 s to be drawn.
        for each in self._layers:
            marked = each.metadata.pop(_MARKED, None)
            if session is None or each not in session.viewer.layers or not each.visible:
                continue
            if marked is not None:
                refresh_box(each, marked)
            if instance is not None:
                mask = instance.mask
                refresh_box(each, self._around(each, mask.box, mask.shape))

    def _around(self, layer: Labels, box: Box, shape: tuple[int, int]) -> Box:
        """Return a box of a slice of this shape, with outlines, in pixels of a layer."""
        margin = 2 * self._thickness(layer, _PICKED_WIDTH)
        # Predictions on large slices are shown coarser.
        y0, x0, y1, x1 = np.divide(box, shape * 2) * (layer.data.shape[1:] * 2)
        return (int(y0) - margin, int(x0) - margin, int(y1) + margin + 1, int(x1) + margin + 1)

    # ------------------------------------------------------------------- jobs

    def look_at_project(self) -> None:
        """Choose the palette against the rock of the project that is open now."""
        session = self._session()
        for runner in (self._rock, self._linked):
            runner.abandon()
        self._forget()
        self._picked = None
        self._chosen, self.chosen_specimens = self._chosen[:0], frozenset()
        if session is None or session.project is None:
            return
        job = JobSpec("Looking at the rock", _palette, (session.project.path,), in_process=False)
        self._rock.start(job, self._take_palette)
        self._look_at_specimens()

    def _take_palette(self, rgb: Floats) -> None:
        self.rgb = rgb
        for layer in self._layers:
            layer.colormap = TintedColormap.of(self._of(layer.metadata[_TINTS]), rgb)
        self.changed.emit()

    def _look_at_specimens(self) -> None:
        session = self._session()
        if session is None or session.project is None:
            return
        self._linked.abandon()
        ledger = self._of("")
        known = {id_: ledger.get(id_) for id_ in ledger.known}
        args = (session.project.path, known)
        job = JobSpec("Looking at the specimens", specimen_indices, args, in_process=False)
        self._linked.start(job, self._take_specimens)

    def _take_specimens(self, found: tuple[dict[SpecimenKey, int], dict[int, int]]) -> None:
        with self._lock:
            self.specimens, ids = found
            if not ids:
                return
            ledger = self._of("")
            # All others choose again, with their present colour before all others.
            ledger.known.clear()
            self._of_specimens = set(ids)
            for id_, index in ids.items():
                ledger.set(id_, index)
            for places in self._places.values():
                for (tints, id_), (box, _, _) in list(places.items()):
                    if not tints and id_ in ids:
                        places[tints, id_] = (box, ids[id_], True)
        self.changed.emit()


_LOOK, _TINTS = "fossiledit_look", "fossiledit_tints"
#: Part of the slice in which the picked instance may have been drawn since it was picked.
_MARKED = "fossiledit_marked"


def colours_of(session: Session) -> Colours:
    """Return the colours of a session; the first call makes them, and they follow the session."""
    if not isinstance(session.colours, Colours):
        session.colours = Colours(session)
        session.colours.look_at_project()
    return session.colours


def _palette(project_path: Any, *, job: Any) -> Floats:
    return choose_palette(rock_colours(project_path, job=job))


def _border(ids: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Return where other ids lie `width` pixels away, or less."""
    border = np.zeros(ids.shape, dtype=np.bool_)
    for y, x in ((width, 0), (0, width)):
        one, other = ids[y:, x:], ids[: len(ids) - y, : ids.shape[1] - x]
        differ = one != other
        border[y:, x:] |= differ
        border[: len(ids) - y, : ids.shape[1] - x] |= differ
    return border


def _note_marked(layer: Labels, box: Box, origin: tuple[int, int]) -> None:
    """Widen the part of the slice in which the picked instance was drawn."""
    (y0, x0, y1, x1), (y, x) = box, origin
    new = (y + y0, x + x0, y + y1, x + x1)
    old = layer.metadata.get(_MARKED, new)
    ends = zip(old, new, (min, min, max, max), strict=True)
    layer.metadata[_MARKED] = tuple(which(one, other) for one, other, which in ends)


def _mark(texture: Texture, mask: NDArray[np.bool_], width: int) -> Box | None:
    """Draw a light line with a dark one inside along the border of a mask; return where."""
    rows, columns = (np.flatnonzero(mask.any(axis=n)) for n in (1, 0))
    if not rows.size:
        return None
    margin = 2 * width
    box = tuple(slice(max(r[0] - margin, 0), r[-1] + margin + 1) for r in (rows, columns))
    near = mask[box]
    part = texture[box]
    part[_border(near, 2 * width) & near] = _DARK
    part[_border(near, width)] = _LIGHT
    return (int(box[0].start), int(box[1].start), int(box[0].stop), int(box[1].stop))
