"""Serial sections of ground-away rock to 3D fossil reefs, in napari.

Importing the package loads neither torch nor Qt: every room is imported when
it is first needed.
"""

__version__ = "0.1.0"
