"""Painting one slice of a scene: picture and labels together, in small windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.samples import appearance
from napari_fossiledit.samples.appearance import Frame, mix, mud, step, surroundings
from napari_fossiledit.samples.fields import Fields, Image
from napari_fossiledit.samples.scene import (
    Cup,
    Floats,
    Microbe,
    ReefScene,
    Shell,
    Spar,
    StarBody,
    looked_up,
)

Labels = NDArray[np.uint16]
Window = tuple[slice, slice]


@dataclass
class Canvas:
    """A slice in the making: colours (3, y, x) in float and the labels of each class, (y, x)."""

    rgb: Image
    specimens: Labels
    cavities: Labels
    calcimicrobes: Labels
    shells: Labels
    rock: NDArray[np.bool_]


@dataclass(frozen=True)
class _Brush:
    """Fields of the slice and coordinates of its pixels in um, x (1, x) and y (y, 1)."""

    params: ReefParams
    fields: Fields
    x: Floats
    y: Floats
    z: float

    def window(self, points: Floats) -> Window | None:
        """Return the pixels of the box around points (n, 2), None where it misses the slice."""
        pixel = self.params.pixel_size_um
        low = np.floor(points.min(0) / pixel).astype(int) - 2
        high = np.ceil(points.max(0) / pixel).astype(int) + 2
        rows = slice(max(low[1], 0), min(high[1], self.y.shape[0]))
        columns = slice(max(low[0], 0), min(high[0], self.x.shape[1]))
        empty = rows.start >= rows.stop or columns.start >= columns.stop
        return None if empty else (rows, columns)

    def frame(self, body: StarBody, window: Window) -> Frame:
        """Put a window into the coordinates of a body."""
        x, y = self.x[:, window[1]], self.y[window[0]]
        distance, theta = body.polar(x, y, self.z)
        radius = looked_up(body.radius, theta, self.z)
        cavity = np.broadcast_to(body.cavity_share(self.z), theta.shape)
        return Frame(distance, theta, radius, cavity, self.params.pixel_size_um, self.z)


def paint(scene: ReefScene, params: ReefParams, fields: Fields, z_um: float) -> Canvas:
    """Paint the slice at depth `z_um`."""
    _, rows, columns = params.shape_zyx
    pixel = params.pixel_size_um
    y, x = (np.arange(rows)[:, None] + 0.5) * pixel, (np.arange(columns)[None] + 0.5) * pixel
    brush = _Brush(params, fields, x, y, z_um)
    a, b, c, d = (np.zeros((rows, columns), np.uint16) for _ in range(4))
    canvas = Canvas(mud(fields), a, b, c, d, np.ones((rows, columns), bool))
    # Later layers cover earlier ones, in the picture and in the labels: cups lie on top.
    for spar in scene.spars:
        _paint_spar(canvas, brush, spar)
    _paint_microbes(canvas, brush, scene.microbes)
    for shell in scene.shells:
        _paint_shell(canvas, brush, shell)
    for cup in scene.cups:
        _paint_cup(canvas, brush, cup)
    # Only what lies within the sawn face of the rock is kept.
    x, y = x.astype(np.float32), y.astype(np.float32)
    share = scene.rock.share(x, y, z_um)
    canvas.rock = share < 1
    for layer in (canvas.specimens, canvas.cavities, canvas.calcimicrobes, canvas.shells):
        layer[~canvas.rock] = 0
    around = surroundings(fields, scene.rock, x, y, z_um)
    soft = pixel / scene.rock.half[0]
    canvas.rgb = mix(canvas.rgb, around, step(share, 1 - soft, 1 + soft))
    return canvas


def _paint_spar(canvas: Canvas, brush: _Brush, spar: Spar) -> None:
    if not spar.body.spans(brush.z):
        return
    window = brush.window(spar.body.outline(brush.z, 64, gap=0.5 * spar.body.profile.radius))
    if window is None:
        return
    frame, fields = brush.frame(spar.body, window), brush.fields.window(window)
    ragged = frame.radius * (1 + 0.12 * fields.small + 0.15 * fields.medium)
    alpha = step(ragged - frame.distance, -80, 120)
    canvas.rgb[:, *window] = mix(
        canvas.rgb[:, *window], appearance.spar(spar.warmth, fields), alpha
    )


def _paint_shell(canvas: Canvas, brush: _Brush, shell: Shell) -> None:
    if not shell.body.spans(brush.z):
        return
    window = brush.window(shell.body.outline(brush.z, 64, gap=shell.thickness))
    if window is None:
        return
    frame, fields = brush.frame(shell.body, window), brush.fields.window(window)
    half, away = shell.half_width(frame.theta), np.abs(frame.distance - frame.radius)
    cover = np.where(half > 0, appearance.edge(away, half, brush.params.pixel_size_um), 0)
    colours = appearance.shell(shell.brightness, fields)
    canvas.rgb[:, *window] = mix(canvas.rgb[:, *window], colours, 0.85 * cover)
    canvas.shells[window][away < half] = shell.id
    canvas.calcimicrobes[window][away < half] = 0


def _paint_microbes(canvas: Canvas, brush: _Brush, microbes: tuple[Microbe, ...]) -> None:
    """Paint calcimicrobe, where several meet the one that is deepest there."""
    deepest = np.full(canvas.rock.shape, 0, np.float32)
    for microbe in microbes:
        window = brush.window(microbe.reach(brush.z)) if microbe.spans(brush.z) else None
        if window is None:
            continue
        best, fields = deepest[window], brush.fields.window(window)
        # Patches that pass for cups are rounder, too.
        ragged = brush.params.calcimicrobe_raggedness * (1.15 - 0.8 * microbe.similarity)
        noise = 0.45 * fields.medium + 0.8 * fields.small + 0.35 * fields.fine
        x, y = brush.x[:, window[1]], brush.y[window[0]]
        depth = np.asarray(microbe.depth(x, y, brush.z) + ragged * noise * 0.7, np.float32)
        colours = appearance.calcimicrobe(
            brush.frame(microbe.body, window),
            microbe.look,
            fields,
            canvas.rgb[:, *window],
            microbe.similarity,
        )
        mine = depth > best
        alpha = step(depth, -0.06, 0.08) * (mine | (best <= 0))
        canvas.rgb[:, *window] = mix(canvas.rgb[:, *window], colours, alpha)
        canvas.calcimicrobes[window][mine] = microbe.id
        best[mine] = depth[mine]


def _paint_cup(canvas: Canvas, brush: _Brush, cup: Cup) -> None:
    """Paint a cup with its branches: each pixel belongs to the branch whose middle is nearest."""
    bodies = [body for body in cup.bodies if body.spans(brush.z)]
    if not bodies:
        return
    window = brush.window(np.concatenate([body.outline(brush.z, 96) for body in bodies]))
    if window is None:
        return
    frame = _joined([brush.frame(body, window) for body in bodies])
    fields = brush.fields.window(window)
    colours = appearance.cup(
        frame,
        cup.look,
        fields,
        canvas.rgb[:, *window],
        cup.texture == "pitted",
        brush.params.mud_filled_contrast,
    )
    alpha = appearance.edge(frame.distance, frame.radius, brush.params.pixel_size_um)
    canvas.rgb[:, *window] = mix(canvas.rgb[:, *window], colours, alpha)
    inside = frame.distance < frame.radius
    canvas.specimens[window][inside] = cup.id
    canvas.cavities[window][frame.distance < frame.cavity * frame.radius] = cup.id
    canvas.calcimicrobes[window][inside] = 0
    canvas.shells[window][inside] = 0


def _joined(frames: list[Frame]) -> Frame:
    """Join the frames of branches: each pixel has that of the branch whose middle is nearest."""
    if len(frames) == 1:
        return frames[0]
    nearest = np.argmin([frame.share for frame in frames], axis=0)[None]

    def of_nearest(name: str) -> Floats:
        layers = [np.broadcast_to(getattr(frame, name), nearest.shape[1:]) for frame in frames]
        return np.asarray(np.take_along_axis(np.stack(layers), nearest, axis=0)[0], np.float64)

    first = frames[0]
    return Frame(
        of_nearest("distance"),
        of_nearest("theta"),
        of_nearest("radius"),
        of_nearest("cavity"),
        first.pixel_um,
        first.z_um,
    )
