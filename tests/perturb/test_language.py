"""Regions, fills and steps as text: read, written, and refused with the place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.perturb import (
    SliceScene,
    parse_region,
    parse_steps,
    preset_steps,
    region_mask,
    steps_text,
)
from napari_fossiledit.perturb.fills import (
    Blur,
    Brightness,
    Hue,
    Mud,
    Noise,
    RealMud,
    Seamless,
    Solid,
    Texture,
)
from napari_fossiledit.perturb.language import parse_fills, split_outside_quotes
from napari_fossiledit.perturb.regions import (
    All,
    And,
    Box,
    Ellipse,
    Grow,
    Not,
    OfClass,
    OfInstances,
    OfTexture,
    Or,
    Other,
    Polygon,
    Rock,
)
from napari_fossiledit.perturb.steps import Step

names = st.one_of(
    st.sampled_from(["archaeocyathid", "and", "not", "red alga; sp. -> 1", "(x)", "a + b", "->"]),
    st.text(st.characters(exclude_characters='"', exclude_categories=["C"]), min_size=1),
)
coordinates = st.integers(-50, 9999) | st.integers(-400, 400).map(lambda v: v / 8)
sides = st.tuples(coordinates, coordinates).filter(lambda p: p[0] < p[1])
crops = st.sampled_from(["", "3:10:74,20:84"])
leaves = st.one_of(
    st.just(All()),
    st.just(Rock()),
    names.map(OfClass),
    names.map(Other),
    names.map(OfTexture),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=3).map(lambda v: OfInstances(tuple(v))),
    st.tuples(sides, sides).map(lambda p: Box(*p[0], *p[1])),
    st.tuples(sides, sides).map(lambda p: Ellipse(*p[0], *p[1])),
    st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=5).map(
        lambda v: Polygon(tuple(v))
    ),
)
regions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(Not),
        st.builds(Grow, st.integers(0, 99), inner),
        st.builds(And, inner, inner),
        st.builds(Or, inner, inner),
    ),
    max_leaves=6,
)
fills = st.one_of(
    st.just(Mud()),
    st.tuples(*[st.integers(0, 65535)] * 3).map(Solid),
    crops.map(Texture),
    crops.map(Seamless),
    crops.map(RealMud),
    st.floats(0.25, 50).map(lambda v: Blur(round(v, 3))),
    st.integers(1, 255).map(Noise),
    st.integers(-59, 60).map(Brightness),
    st.integers(-359, 360).map(Hue),
)
steps = st.builds(Step, regions, st.lists(fills, min_size=1, max_size=3).map(tuple))


@given(st.lists(steps, min_size=1, max_size=3).map(tuple))
def test_steps_are_read_back_as_they_were_written(made: tuple[Step, ...]) -> None:
    assert parse_steps(steps_text(made)) == made


@pytest.mark.parametrize("preset", [p for p in Preset if p is not Preset.CUSTOM])
@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_presets_are_read_back(preset: Preset, margin: float) -> None:
    made = preset_steps(preset, "red alga", seamless=True, margin=margin)
    assert parse_steps(steps_text(made)) == made


def test_presets_are_those_of_the_paper_and_a_softer_one() -> None:
    texts = {p: steps_text(preset_steps(p, "cup")) for p in Preset if p is not Preset.CUSTOM}
    assert texts == {
        Preset.BACKGROUND_TO_MUD: "other cup -> mud",
        Preset.FOSSILS_TO_TEXTURE: "class cup -> texture",
        Preset.BOTH: "other cup -> mud; class cup -> texture",
        Preset.OCCLUDE_FOSSILS: "class cup -> mud",
        Preset.SOFTEN_BACKGROUND: "other cup -> blur 4",
    }
    with pytest.raises(FossilError, match="custom"):
        preset_steps(Preset.CUSTOM, "cup")


def test_and_binds_closer_than_or_and_not_closest() -> None:
    assert parse_region("all or rock and not class a") == Or(All(), And(Rock(), Not(OfClass("a"))))
    assert parse_region("(all or rock) and class a") == And(Or(All(), Rock()), OfClass("a"))
    assert parse_region("box :5,3:") == Box(None, 5, 3, None)
    assert parse_region("box 2:5") == Box(2, 5)


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("class", 6, "a name"),
        ("class and rock", 7, "a name"),
        ("everything", 1, "one of all, rock"),
        ("rock and", 9, "one of all, rock"),
        ("rock class a", 6, "and, or"),
        ("(rock", 6, "parenthesis"),
        ("(rock class a)", 7, "parenthesis"),
        ("rock)", 5, "and, or"),
        ("instance seven", 10, "ids"),
        ("box 5:2,0:4", 5, "x0 < x1"),
        ("box 5", 5, "sides"),
        ("ellipse 3:,0:4", 9, "four sides"),
        ("ellipse 3:3,0:4", 9, "x0 < x1"),
        ("polygon 1,2 3,4", 16, "three or more corners"),
        ("polygon 1,2 3,4 five", 17, "three or more corners"),
        ("polygon 1,2 3,4 99999999,1", 17, "three or more corners"),
        ('class "red', 7, "closed quote"),
        ("grow rock", 6, "number of pixels"),
        ("", 1, "one of all, rock"),
        ("instance " + "9" * 5000, 10, "ids"),
        ("(" * 5000 + "all" + ")" * 5000, 101, "100 of (, and, grow, not, or at most"),
        ("not " * 5000 + "all", 401, "at most"),
        ("all" + " or all" * 5000, 705, "at most"),
    ],
)
def test_unreadable_regions_tell_the_place(text: str, place: int, expected: str) -> None:
    with pytest.raises(FossilError, match=f"at character {place}") as caught:
        parse_region(text)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_what_is_nested_as_deeply_as_may_be_is_read_and_painted() -> None:
    made = parse_region("(" * 50 + "all" + ")" * 50 + " or all" * 50)
    assert str(made) == "all" + " or all" * 50
    scene = SliceScene(np.zeros((3, 4), np.uint8))
    assert region_mask(parse_region("not " * 100 + "all"), scene).all()


@pytest.mark.parametrize("mark", [";", "->", " + "])
def test_marks_in_quotes_do_not_split(mark: str) -> None:
    assert split_outside_quotes(f'a{mark}"b{mark}c"d{mark}', mark) == ["a", f'"b{mark}c"d', ""]


def test_a_tiny_coordinate_is_read_back() -> None:
    made = Polygon(((1e-5, 2), (30, 4), (-2.5e-7, 8)))
    assert parse_region(str(made)) == made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("paint", "one of mud, colour"),
        ("colour 1,2", "r,g,b"),
        ("colour -1,2,3", "r,g,b"),
        ("texture 3:1:9", "SLICE:x0:x1,y0:y1"),
        ("blur 0", "a number above 0, 50 at most"),
        ("blur nan", "a number above 0"),
        ("blur inf", "50 at most"),
        ("noise many", "a number above 0, 255 at most"),
        ("hue", "360 at most; found its end"),
        ("mud mud", "+ and another one"),
        ("mud + ", "one of mud, colour"),
    ],
)
def test_unreadable_fills_tell_what_is_expected(text: str, expected: str) -> None:
    with pytest.raises(FossilError) as caught:
        parse_fills(text)
    assert expected in str(caught.value)


@pytest.mark.parametrize("text", ["", " ; ", "rock", "rock -> mud -> mud", "rock mud"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(FossilError, match="REGION -> FILL"):
        parse_steps(text)
