"""What of a stack is worth a person's time next."""

from napari_fossiledit.selection.distances import Distances, distances
from napari_fossiledit.selection.places import Doubt, Neighbours, Place, find_places

__all__ = ["Distances", "Doubt", "Neighbours", "Place", "distances", "find_places"]
