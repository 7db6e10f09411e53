"""Surfaces and measurements against analytic shapes and voxel counts."""

import json
import math

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import StackGeometry, ZDirection
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.reef import build_surface, measure, sections_of, simplified, thinned
from napari_fossiledit.reef import surface as surface_module
from napari_fossiledit.reef.field import clipped_distance

PIXEL = 10.0


def grid(depth, height, width, step):
    """Coordinates in pixels of the voxel centres; the middle lies off the grid."""
    z = (np.arange(depth) - depth / 2 + 0.2) * step
    y, x = np.arange(height) - height / 2 + 0.3, np.arange(width) - width / 2 - 0.1
    return np.meshgrid(z, y, x, indexing="ij", sparse=True)


def sphere(step, r):
    z, y, x = grid(2 * math.ceil(r / step) + 3, 2 * r + 3, 2 * r + 3, step)
    return z**2 + y**2 + x**2 <= r**2, 4 / 3 * math.pi * r**3, 4 * math.pi * r**2


def ellipsoid(step, r):
    a, b, c = r, 1.3 * r, 1.1 * r
    size = math.ceil(2 * b) + 3
    z, y, x = grid(2 * math.ceil(a / step) + 3, size, size, step)
    p = 1.6075  # Thomsen's formula for the area, good to 1.1 %
    mean = ((a * b) ** p + (a * c) ** p + (b * c) ** p) / 3
    inside = (z / a) ** 2 + (y / b) ** 2 + (x / c) ** 2 <= 1
    return inside, 4 / 3 * math.pi * a * b * c, 4 * math.pi * mean ** (1 / p)


def torus(step, r):
    ring = 2 * r
    size = math.ceil(2 * (ring + r)) + 3
    z, y, x = grid(2 * math.ceil(r / step) + 3, size, size, step)
    inside = (np.hypot(y, x) - ring) ** 2 + z**2 <= r**2
    return inside, 2 * math.pi**2 * ring * r**2, 4 * math.pi**2 * ring * r


def instances_of(volume, cavity=None, **fields):
    found = [
        Instance(z, "archaeocyathid", Mask.from_array(s), id=z + 1, specimen=1, **fields)
        for z, s in enumerate(volume)
    ]
    for z, s in enumerate(() if cavity is None else cavity):
        found.append(Instance(z, "archaeocyathid", Mask.from_array(s), part=Part.CAVITY))
    return found


def surface_of(volume, step=1.0, cavity=None, **options):
    geometry = StackGeometry(PIXEL, PIXEL * step)
    return build_surface(sections_of(instances_of(volume, cavity)), geometry, **options)


@pytest.mark.parametrize("shape", [sphere, ellipsoid, torus])
@pytest.mark.parametrize(("step", "radius"), [(1, 12), (7, 48)])
def test_analytic_shapes_keep_volume_and_area(shape, step, radius):
    inside, volume, area = shape(step, radius)
    surface = surface_of(inside, step)
    assert surface.closed
    assert surface.volume_um3 == pytest.approx(volume * PIXEL**3, rel=0.02)
    assert surface.area_um2 == pytest.approx(area * PIXEL**2, rel=0.04)


def test_volume_is_that_of_the_sections():
    rng = np.random.default_rng(0)
    volume = np.zeros((9, 40, 40), dtype=bool)
    for z in range(9):
        y, x = rng.integers(2, 20, size=2)
        volume[z, y : y + 15, x : x + 12] = True
    surface = surface_of(volume, 7)
    assert surface.contour_volume_um3 == volume.sum() * PIXEL**3 * 7
    assert surface.volume_um3 == pytest.approx(surface.contour_volume_um3, rel=1e-3)


def test_a_single_section_reaches_half_a_step_to_either_side():
    volume = np.zeros((5, 30, 30), dtype=bool)
    volume[3, 5:25, 5:25] = True
    surface = surface_of(volume, 7)
    z = surface.vertices[:, 0] / (7 * PIXEL)
    assert (z.min(), z.max()) == pytest.approx((2.5, 3.5), abs=0.1)
    assert surface.volume_um3 == pytest.approx(400 * 7 * PIXEL**3, rel=1e-3)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 12), (4, 5)])
@pytest.mark.parametrize("slices", [1, 2])
def test_a_body_of_a_few_pixels_keeps_its_volume(height, width, slices):
    volume = np.zeros((5, 20, 30), dtype=bool)
    volume[2 : 2 + slices, 5 : 5 + height, 5 : 5 + width] = True
    surface = surface_of(volume, 7)
    assert surface.closed
    assert surface.volume_um3 == pytest.approx(surface.contour_volume_um3, rel=0.01)
    z = surface.vertices[:, 0] / (7 * PIXEL)
    assert (z.min(), z.max()) == pytest.approx((1.5, 1.5 + slices), abs=0.15)


def test_vertices_lie_where_the_voxels_are():
    """The centre of pixel (0, 0) of slice 0 is the origin; order (z, y, x)."""
    volume = np.zeros((8, 40, 50), dtype=bool)
    volume[2:5, 10:20, 30:45] = True
    surface = surface_of(volume, 3)
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    assert low == pytest.approx(np.array([1.5 * 30, 9.5 * 10, 29.5 * 10]), abs=PIXEL / 2)
    assert high == pytest.approx(np.array([4.5 * 30, 19.5 * 10, 44.5 * 10]), abs=PIXEL / 2)


def test_a_branch_that_ends_is_not_drawn_in_by_its_neighbour():
    volume = np.zeros((6, 60, 120), dtype=bool)
    volume[:, 10:50, 60:110] = True
    volume[:3, 20:40, 5:25] = True
    surface = surface_of(volume, 7)
    ended = surface.vertices[surface.vertices[:, 2] < 30 * PIXEL]
    assert ended[:, 0].max() / (7 * PIXEL) == pytest.approx(2.5, abs=0.1)
    assert surface.solid.body_count == 2


def test_a_missing_slice_closes_the_surface_and_begins_anew():
    volume = np.zeros((7, 40, 40), dtype=bool)
    volume[[0, 1, 2, 4, 5, 6], 5:35, 5:35] = True
    surface = surface_of(volume, 5)
    assert surface.closed
    assert surface.solid.body_count == 2


def test_cavities_are_cut_out_or_not():
    body = np.zeros((9, 40, 40), dtype=bool)
    body[1:8, 5:35, 5:35] = True
    cavity = np.zeros_like(body)
    cavity[3:6, 12:28, 12:28] = True
    hollow, solid = surface_of(body, 4, cavity), surface_of(body, 4, cavity, cavities=False)
    assert hollow.closed
    assert solid.closed
    assert hollow.volume_um3 == pytest.approx((body.sum() - cavity.sum()) * 4 * PIXEL**3, rel=1e-3)
    assert solid.volume_um3 == pytest.approx(body.sum() * 4 * PIXEL**3, rel=1e-3)
    assert hollow.area_um2 > solid.area_um2


def test_the_mirror_shows_the_other_hand_and_still_looks_outward():
    rng = np.random.default_rng(2)
    volume = np.zeros((4, 30, 30), dtype=bool)
    volume[rng.random(volume.shape) < 0.4] = True
    volume[:, 0], volume[:, :, 0] = False, False
    surface = surface_of(volume, 3)
    mirrored = surface.in_rock(ZDirection.OUT_OF)
    assert surface.in_rock(ZDirection.INTO) is surface
    assert mirrored.closed
    assert mirrored.volume_um3 == pytest.approx(surface.volume_um3)
    assert np.array_equal(mirrored.vertices[:, 0], -surface.vertices[:, 0])
    assert np.array_equal(mirrored.vertices[:, 1:], surface.vertices[:, 1:])


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.5, 0.6, 0.8]), st.sampled_from([1, 7]))
def test_even_noise_gives_a_closed_surface(seed, density, step):
    volume = np.random.default_rng(seed).random((5, 14, 14)) < density
    volume[2, 7, 7] = True
    surface = surface_of(volume, step)
    assert surface.closed
    assert surface.volume_um3 > 0


def test_slabs_of_slices_meet_without_a_seam(monkeypatch):
    volume = np.random.default_rng(5).random((24, 16, 17)) < 0.4
    for z in range(24):
        volume[z] = np.roll(volume[z], z, axis=1)
    volume[9], volume[17:19] = False, False
    whole = surface_of(volume, 3)
    monkeypatch.setattr(surface_module, "_THICK", 4)
    monkeypatch.setattr(surface_module, "_SLAB", 1)
    slabs = surface_of(volume, 3)
    assert slabs.closed
    assert len(slabs.faces) == len(whole.faces)
    assert slabs.vertices == pytest.approx(whole.vertices, abs=1e-3)


@pytest.mark.parametrize("step", [1, 7])
def test_touching_specimens_share_a_face_and_do_not_overlap(step):
    inside = sphere(step, 14)[0]
    z, y, x = grid(*inside.shape, step)
    halves = [
        sections_of(instances_of(half)) for half in (inside & (x + y < z), inside & (x + y >= z))
    ]
    geometry = StackGeometry(PIXEL, PIXEL * step)
    pair = [
        build_surface(half, geometry, near=[other])
        for half, other in zip(halves, halves[::-1], strict=True)
    ]
    assert all(s.closed and s.sound for s in pair)
    overlap = (pair[0].manifold ^ pair[1].manifold).volume()
    assert overlap <= 0.001 * min(s.volume_um3 for s in pair)
    # Away from the rim of the face, which has a quarter of the area, both have the same vertices.
    apart, _ = cKDTree(pair[0].vertices).query(pair[1].vertices)
    assert (apart < 1e-3).mean() > 0.15
    for surface in pair:
        assert surface.volume_um3 == pytest.approx(surface.contour_volume_um3, rel=2e-3)


def test_a_pixel_of_two_specimens_is_in_one_mesh():
    one, other = np.zeros((6, 30, 40), dtype=bool), np.zeros((6, 30, 40), dtype=bool)
    one[1:5, 5:25, 5:22], other[1:5, 5:25, 18:35] = True, True
    geometry = StackGeometry(PIXEL, PIXEL)
    halves = [sections_of(instances_of(v)) for v in (one, other)]
    left, right = (build_surface(a, geometry, near=[b]) for a, b in (halves, halves[::-1]))
    overlap = (left.manifold ^ right.manifold).volume()
    assert overlap <= 0.001 * left.volume_um3
    assert left.contour_volume_um3 == one.sum() * PIXEL**3
    assert left.volume_um3 < left.contour_volume_um3 - 100 * PIXEL**3


def test_a_specimen_cut_by_the_block_is_left_open_there():
    volume = np.zeros((6, 30, 40), dtype=bool)
    volume[:5, 10:, 10:30] = True
    sections = sections_of(instances_of(volume))
    geometry = StackGeometry(PIXEL, 3 * PIXEL)
    capped = build_surface(sections, geometry)
    opened = build_surface(sections, geometry, open_at=volume.shape)
    assert (opened.open, opened.closed) == (True, False)
    assert opened.volume_um3 == capped.contour_volume_um3
    sides = (2 * 5 * 3 * 20 + 5 * 3 * 20 + 20 * 20) * PIXEL**2
    assert opened.area_um2 == pytest.approx(sides, rel=0.07)
    inner = build_surface(sections, geometry, open_at=(9, 50, 60))
    assert inner.open == (sections[0].slice == 0)
    assert np.unique(opened.faces).size == len(opened.vertices)


def test_thinned_surfaces_stay_within_their_error():
    surface = surface_of(sphere(3, 30)[0], 3)
    thin = thinned(surface, 2.0)
    assert thin.sound
    assert len(thin.faces) < 0.5 * len(surface.faces)
    assert thin.volume_um3 == pytest.approx(surface.volume_um3, rel=0.01)
    # Points of the thin surface lie 1.3 um apart on average.
    cloud = thin.solid.sample(600_000, seed=0)
    assert cKDTree(cloud).query(surface.vertices[:, ::-1])[0].max() < 2.0 + 2.5
    assert thinned(surface, 0) is surface


def test_nothing_to_mesh_is_told():
    body = np.zeros((2, 9, 9), dtype=bool)
    body[0, 2:5, 2:5] = True
    with pytest.raises(FossilError, match="no pixel"):
        surface_of(body, 1, body)


def test_simplified_surfaces_stay_closed():
    surface = surface_of(sphere(3, 30)[0], 3)
    small = simplified(surface, 800)
    assert small.closed
    assert len(small.faces) <= 900
    assert small.volume_um3 == pytest.approx(surface.volume_um3, rel=0.02)
    assert simplified(surface, 0) is simplified(surface, 10**9) is surface


def test_distances_are_exact_up_to_their_limit():
    masks = np.random.default_rng(3).random((4, 30, 35)) < 0.02
    masks[1], masks[2] = ndimage.binary_dilation(masks[1], iterations=4), False
    for limit in (2.0, 7.3):
        for mask, found in zip(masks, clipped_distance(masks.view(np.uint8), limit), strict=True):
            expected = np.full(mask.shape, -np.inf)
            if mask.any():
                inner, outer = map(ndimage.distance_transform_edt, (mask, ~mask))
                expected = np.where(mask, inner - 0.5, 0.5 - outer)
            assert found == pytest.approx(np.clip(expected, -limit, limit), abs=1e-5)


def test_measurements_of_a_cuboid_with_a_cavity():
    body = np.zeros((8, 40, 50), dtype=bool)
    body[2:6, 10:30, 20:44] = True
    cavity = np.zeros_like(body)
    cavity[3:5, 15:25, 28:36] = True
    geometry = StackGeometry(PIXEL, 40.0)
    instances = instances_of(body[2:6].repeat(1, axis=0), cavity[2:6], texture="pitted")
    surface = build_surface(sections_of(instances), geometry)
    row = measure(3, instances, geometry, surface)
    assert (row.specimen, row.slices, row.first_slice, row.last_slice) == (3, 4, 0, 3)
    assert row.volume_um3 == body.sum() * PIXEL**2 * 40
    assert row.cavity_volume_um3 == cavity.sum() * PIXEL**2 * 40
    assert row.mesh_volume_um3 == pytest.approx(row.volume_um3 - row.cavity_volume_um3, rel=1e-3)
    assert row.centroid_um == pytest.approx((60.0, 195.0, 315.0))
    assert row.box_low_um == (-20.0, 95.0, 195.0)
    assert row.box_high_um == (140.0, 295.0, 435.0)
    assert row.texture == "pitted"
    record = row.record()
    assert record["centroid_x_um"] == pytest.approx(315.0)
    json.dumps(record, allow_nan=False)


def test_positions_are_mirrored_where_slices_count_out_of_the_rock():
    body = np.zeros((3, 20, 20), dtype=bool)
    body[1:, 5:15, 5:15] = True
    geometry = StackGeometry(PIXEL, 40.0, ZDirection.OUT_OF)
    instances = instances_of(body)
    surface = build_surface(sections_of(instances), geometry).in_rock(geometry.z_direction)
    row = measure(1, instances, geometry, surface)
    assert row.centroid_um[0] == -60.0
    assert (row.box_low_um[0], row.box_high_um[0]) == (-100.0, -20.0)
    assert surface.vertices[:, 0].min() == pytest.approx(-100.0, abs=PIXEL / 2)


def test_branches_count_as_sections_and_textures_vote_by_area():
    small, large = np.zeros((20, 20), dtype=bool), np.zeros((20, 20), dtype=bool)
    small[2:5, 2:5], large[8:18, 8:18] = True, True
    instances = [
        Instance(0, "archaeocyathid", Mask.from_array(small), texture="pitted"),
        Instance(0, "archaeocyathid", Mask.from_array(large), texture="mud_filled"),
    ]
    geometry = StackGeometry(PIXEL, 40.0)
    row = measure(1, instances, geometry, build_surface(sections_of(instances), geometry))
    assert (row.slices, row.sections, row.texture) == (1, 2, "mud_filled")


@pytest.mark.real_data
@pytest.mark.parametrize("individual", [3, 8])
def test_real_archaeocyaths_are_closed_and_keep_their_volume(shared_data, individual):
    outer, inner = (
        tifffile.imread(shared_data / f"rlg136a/rlg136a_{part}_labels_zyx.tif") == individual
        for part in ("outer", "inner")
    )
    box = tuple(slice(i.min() - 2, i.max() + 3) for i in np.nonzero(outer))
    outer, inner = outer[box], inner[box]
    for cavity in (None, inner):
        surface = surface_of(outer, 6.874, cavity)
        contours = outer if cavity is None else outer & ~cavity
        assert surface.closed
        expected = contours.sum() * 6.874 * PIXEL**3
        assert surface.volume_um3 == pytest.approx(expected, rel=0.02)


def test_uneven_slices_lie_where_they_were_ground():
    positions = (0.0, 10.0, 20.0, 30.0, 90.0, 150.0, 210.0)
    geometry = StackGeometry(PIXEL, 35.0, z_positions_um=positions)
    volume = np.zeros((7, 24, 24), dtype=bool)
    volume[1:6, 4:20, 4:20] = True
    surface = build_surface(sections_of(instances_of(volume)), geometry)
    assert surface.closed
    assert surface.vertices[:, 0].min() == pytest.approx(5, abs=4)
    assert surface.vertices[:, 0].max() == pytest.approx(180, abs=4)
    assert surface.contour_volume_um3 == 16 * 16 * PIXEL**2 * (180 - 5)
    row = measure(1, instances_of(volume), geometry, surface)
    assert (row.box_low_um[0], row.box_high_um[0], row.volume_um3) == (
        5, 180, surface.contour_volume_um3
    )  # fmt: skip
