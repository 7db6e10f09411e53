"""The graph of a specimen and its centre lines, against shapes made by formula."""

import numpy as np

from napari_fossiledit.masks import Mask
from napari_fossiledit.reef import Section, graph


def sections(volume):
    return [Section(z, Mask.from_array(s)) for z, s in enumerate(volume) if s.any()]


def test_a_graph_has_a_node_for_each_piece_and_goes_on_over_a_missing_slice():
    volume = np.zeros((7, 20, 40), dtype=bool)
    volume[1, 5:15, 5:35] = True
    volume[2:, 5:15, 5:15] = True
    # The other branch is missing in slice 3, and what begins in slice 6 goes on nothing.
    volume[[2, 4, 5], 5:15, 25:35] = True
    volume[6, 16:18, 25:35] = True
    pieces, edges = graph(sections(volume))
    places = [(p.slice, p.body.box[1]) for p in pieces]
    named = {(places[a], places[b]) for a, b in edges}
    left = {((z, 5), (z + 1, 5)) for z in range(1, 6)}
    assert named == left | {((1, 5), (2, 25)), ((2, 25), (4, 25)), ((4, 25), (5, 25))}
    assert [p.body.area for p in pieces][:3] == [300, 100, 100]
    assert not len(graph(sections(volume[3:4]))[1])
