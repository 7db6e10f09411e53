"""Label volumes of other programs are read by the bytes of their specifications."""

import gzip
import struct
from itertools import repeat

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.label_volume import suffix_of, write_label_volume
from napari_fossiledit.geometry import StackGeometry, ZDirection
from napari_fossiledit.params.reconstruct import LengthUnit
from tests.full_disk import full_disk

SHAPE = (3, 4, 5)
GEOMETRY = StackGeometry(pixel_size_um=20, slice_spacing_um=500)
OUT_OF = StackGeometry(20, 500, ZDirection.OUT_OF)


@pytest.fixture
def volume():
    """Labels (z, y, x) with a number beyond 16 bits; no axis is like another one."""
    labels = np.arange(60, dtype=np.uint32).reshape(SHAPE)
    labels[2, 3, 4] = 2**31 - 1
    return labels


def written(path, volume, geometry=GEOMETRY, unit=LengthUnit.UM):
    # Labels are painted column by column.
    slices = map(np.asfortranarray, volume)
    write_label_volume(path, slices, SHAPE, geometry, unit)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("geometry", "unit", "z"),
    [(GEOMETRY, "um", "500"), (OUT_OF, "um", "-500"), (OUT_OF, "mm", "-0.5")],
)
def test_a_nrrd_file_states_unit_spacing_and_direction(tmp_path, volume, geometry, unit, z):
    data = written(tmp_path / "reef.nrrd", volume, geometry, LengthUnit(unit))
    head, _, packed = data.partition(b"\n\n")
    magic, *lines = head.decode("ascii").splitlines()
    fields = dict(line.split(": ", 1) for line in lines if not line.startswith("#"))
    assert magic == "NRRD0004"
    step = "20" if unit == "um" else "0.02"
    assert fields["space directions"] == f"({step},0,0) (0,{step},0) (0,0,{z})"
    assert fields["space units"] == " ".join([f'"{unit}"'] * 3)
    assert (fields["space"], fields["sizes"]) == ("left-posterior-superior", "5 4 3")
    assert (fields["type"], fields["endian"], fields["encoding"]) == ("int32", "little", "gzip")
    read = np.frombuffer(gzip.decompress(packed), "<i4").reshape(SHAPE)
    assert np.array_equal(read, volume)


@pytest.mark.parametrize("name", ["reef.nii", "reef.nii.gz"])
@pytest.mark.parametrize(("geometry", "hand"), [(GEOMETRY, 1), (OUT_OF, -1)])
def test_a_nifti_file_states_unit_spacing_and_direction(tmp_path, volume, name, geometry, hand):
    data = written(tmp_path / name, volume, geometry)
    data = gzip.decompress(data) if name.endswith(".gz") else data
    assert struct.unpack_from("<i", data, 0) == (348,)
    assert struct.unpack_from("<8h", data, 40) == (3, 5, 4, 3, 1, 1, 1, 1)
    assert struct.unpack_from("<3h", data, 68) == (1002, 8, 32)
    assert struct.unpack_from("<4f", data, 76) == (1, 20, 20, 500)
    assert struct.unpack_from("<2f", data, 108) == (352, 1)
    assert (data[123], data[344:352]) == (3, b"n+1\0\0\0\0\0")
    assert struct.unpack_from("<2h", data, 252) == (0, 1)
    places = np.array(struct.unpack_from("<12f", data, 280)).reshape(3, 4)
    assert np.array_equal(places, np.diag([-20, -20, hand * 500, 0])[:3])
    assert np.array_equal(np.frombuffer(data[352:], "<i4").reshape(SHAPE), volume)


def test_numbers_and_sizes_that_do_not_fit_are_refused(tmp_path, volume):
    volume[0, 0, 0] = 2**31
    with pytest.raises(FossilError, match=r"cannot hold a number.*2147483647.*2147483648"):
        written(tmp_path / "reef.nrrd", volume)
    long = (40_000, 1, 1)
    with pytest.raises(FossilError, match=r"at most 32767 voxels.*40000 x 1 x 1.*\.nrrd"):
        write_label_volume(tmp_path / "reef.nii", repeat(volume[0]), long, GEOMETRY)
    with pytest.raises(FossilError, match=r"reef\.mha is no label volume"):
        written(tmp_path / "reef.mha", volume)
    assert not list(tmp_path.iterdir())
    assert [suffix_of(tmp_path / n) for n in ("a.NII.GZ", "a.gz", "a.b.tif")] == [
        ".nii.gz",
        "",
        ".tif",
    ]


@pytest.mark.parametrize("name", ["reef.nrrd", "reef.nii.gz", "reef.tif"])
def test_only_a_volume_of_ours_is_replaced(tmp_path, volume, name):
    path = tmp_path / name
    path.write_bytes(b"a scan of somebody")
    with pytest.raises(FossilError, match=r"reef\..* is in the way"):
        written(path, volume)
    path.unlink()
    assert written(path, volume) == written(path, volume)


@pytest.mark.parametrize("name", ["reef.nrrd", "reef.nii", "reef.nii.gz", "reef.tif"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, name):
    noise = np.random.default_rng(0).integers(0, 2**16, (3, 80, 90), dtype=np.uint16)
    full_disk(monkeypatch, 20_000)
    with pytest.raises(FossilError, match=r"(?s)reef.*The disk is full"):
        write_label_volume(tmp_path / name, iter(noise), noise.shape, GEOMETRY)
    assert not list(tmp_path.iterdir())
