"""Checkpoints that are cut, changed or made to harm end with a `FossilError`."""

from __future__ import annotations

import os
import pickle
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import napari_fossiledit
from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.file import read_checkpoint
from napari_fossiledit.models.detectron2.restricted_pickle import (
    Fixed,
    ForbiddenError,
    Function,
    read_pickle,
)

SOURCE = Path(napari_fossiledit.__file__).parents[1]

READ = """
import sys
from pathlib import Path
from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.file import read_checkpoint
for name in sys.argv[1:]:
    try:
        read_checkpoint(Path(name))
    except FossilError as error:
        print(error, flush=True)
"""
EIGHT = b"C\x08" + b"A" * 8


def _text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _number(value):
    return b"J" + struct.pack("<i", value)


def _dtype(code):
    return b"cnumpy\ndtype\n(" + _text(code) + b"\x89\x88tR"


def _objects(flags):
    """Write the state of a dtype of addresses, with flags that say whether they are such."""
    fields = b"}" + _text("a") + _dtype("O8") + _number(0) + b"\x86s"
    rest = b"N(" + _text("a") + b"t" + fields + _number(8) + _number(1) + _number(flags)
    return b"(" + _number(3) + _text("|") + rest + b"t"


def _array(length, dtype, data, kind=b"cnumpy\nndarray\n"):
    made = b"cnumpy.core.multiarray\n_reconstruct\n(" + kind + b"K\x00\x85C\x01btR"
    return made + b"(K\x01" + _number(length) + b"\x85" + dtype + b"\x89" + data + b"tb"


def _addresses():
    """Write an array of bytes whose dtype says later that they are addresses of objects."""
    dtype = _dtype("V8") + b"\x94" + _objects(0) + b"b0"
    return dtype + _array(1, b"h\x00", EIGHT) + b"h\x00" + _objects(1) + b"b0"


def _aliases():
    """Write a list of two lists, each of two lists ..., each of them once."""
    return b"]\x94" + b"".join(b"(h%ch%cl\x94" % (n, n) for n in range(60))


def _copies():
    """Write a thousand bytes once, and a hundred arrays of them."""
    data = b"B" + struct.pack("<I", 1000) + b"A" * 1000 + b"\x940"
    return data + b"(" + _array(1000, _dtype("u1"), b"h\x00") * 100 + b"l"


HARMFUL = {
    "addresses": (_addresses(), "an array of type 'V8'"),
    "state": (_dtype("f4") + b"(K\x03" + _text("|") + b")NNtb", "a type that is made of others"),
    "defaults": (
        b"cnumpy.core.numeric\n_frombuffer\nN}" + _text("__defaults__") + b"Ns\x86b",
        "found a change of",
    ),
    "subclass": (_array(2, _dtype("f4"), EIGHT, _dtype("f4")), "an array of a class of its own"),
    "short": (_array(9, _dtype("f4"), EIGHT), "8 bytes for float32 of shape (9,)"),
    "negative": (_array(-2, _dtype("f4"), EIGHT), "a shape that does not consist of lengths"),
    "deep key": (b"})" + b"\x85" * 1_000_000 + b"K\x01s", "a key of type tuple"),
    "deep": (b"]" * 99 + b"a" * 98, "more than 32 deep"),
    "round": (b"]\x94h\x00a", "more than 32 deep"),
    "aliases": (_aliases(), "more than 1000000 values"),
    "copies": (_copies(), "more values than the file has room for"),
    "memo": (b"Nr\xff\xff\xff\xff", "found NoneType"),
    "number": (b"\x8b" + struct.pack("<i", 4000) + b"\x7f" * 4000, "more than 64 bits"),
    "length": (b"\x96" + struct.pack("<Q", 2**40) + b"A", "cannot be read"),
    "new": (_dtype("f4") + b")\x81", "cannot be read"),
    "set": (b"\x8f", "cannot be read"),
}


def _said(function, *arguments):
    with pytest.raises(FossilError) as error:
        function(*arguments)
    return str(error.value)


def test_harmful_pickles_harm_nothing(tmp_path):
    paths = [tmp_path / f"{name}.pkl" for name in HARMFUL]
    for path, (content, _) in zip(paths, HARMFUL.values(), strict=True):
        path.write_bytes(b"\x80\x04" + content + b".")
    # In a process of its own, which would die of them.
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert len(said) == len(HARMFUL)
    for line, path, (_, found) in zip(said, paths, HARMFUL.values(), strict=True):
        assert str(path) in line
        assert found in line
        assert len(line) < 800


def test_functions_given_to_a_pickle_cannot_be_changed():
    function = Function(len)
    with pytest.raises(ForbiddenError, match="value"):
        function.value = max
    with pytest.raises(ForbiddenError):
        function.__setstate__({"value": max})
    assert not hasattr(function, "__dict__")
    assert not hasattr(Fixed(1), "__dict__")
    assert function("abc") == 3


def _model_zoo():
    generator = np.random.default_rng(0)
    return {
        "model": {
            "conv.weight": generator.normal(size=(4, 3, 3, 3)).astype(np.float32),
            "conv.bias": np.asfortranarray(generator.normal(size=(4, 2))),
            "norm.num_batches_tracked": np.array(7),
            "big": np.arange(5, dtype=">f4"),
            "half": np.arange(4, dtype="f2"),
            "mask": np.array([True, False]),
            "last": np.float32(0.25),
        },
        "__author__": "Detectron2 Model Zoo",
        "matching_heuristics": True,
    }


@pytest.mark.parametrize("protocol", range(6))
def test_model_zoo_pickles_are_read_value_by_value(tmp_path, protocol):
    path, values = tmp_path / "m.pkl", _model_zoo()
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    found = read_pickle(path)
    assert found["__author__"] == values["__author__"]
    assert found["matching_heuristics"] is True
    for name, value in values["model"].items():
        np.testing.assert_array_equal(found["model"][name], value)
        assert found["model"][name].dtype == value.dtype.newbyteorder("=")
    state = read_checkpoint(path).state
    assert {n: tuple(v.shape) for n, v in state.items()} == {
        n: v.shape for n, v in values["model"].items()
    }


def test_pickles_of_python_2_are_read(tmp_path):
    data = np.arange(3, dtype="<f4").tobytes()
    short = b"U" + bytes([len(data)]) + data
    state = b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR" + state
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    array += b"(K\x01K\x03\x85" + dtype + b"\x89" + short + b"tb"
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02}U\x05blobs}U\x01w" + array + b"ss.")
    np.testing.assert_array_equal(read_pickle(path)["blobs"]["w"], [0, 1, 2])


def _saved(folder, kind):
    """Save a few tensors as a pickle, as torch does, or as it did until 2020."""
    path = folder / ("m.pkl" if kind == "pkl" else "m.pth")
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}
    if kind == "pkl":
        arrays = {name: value.numpy() for name, value in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "tensors": state}, protocol=2))
    else:
        torch.save({"model": state}, path, _use_new_zipfile_serialization=kind == "zip")
    return path


def _read_or_refused(path, data):
    path.write_bytes(data)
    try:
        return read_checkpoint(path)
    except FossilError as error:
        said = str(error)
    assert str(path) in said
    return None


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["pkl", "zip", "legacy"])
def test_changed_bytes_end_in_words(tmp_path, kind):
    path = _saved(tmp_path, kind)
    whole, dice = path.read_bytes(), random.Random(0)
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 1, 3])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        _read_or_refused(path, bytes(data))
    assert _read_or_refused(path, whole) is not None


@pytest.mark.parametrize("kind", ["pkl", "zip", "legacy"])
def test_cut_files_are_named(tmp_path, kind):
    path = _saved(tmp_path, kind)
    whole = path.read_bytes()
    for kept in range(0, len(whole), 7):
        assert _read_or_refused(path, whole[:kept]) is None


@pytest.mark.parametrize("name", ["m.pkl", "m.pth"])
@pytest.mark.parametrize(
    "data", [b"hello", b".", b"<html>", b"\x80\x02.", b"version https://", b"0"]
)
def test_other_files_are_named(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    said = _said(read_checkpoint, path)
    assert f"{path} cannot be read" in said
    assert f"found {len(data)} bytes (" in said
