"""A second stage that draws the masks of a model again, pixel by pixel at native resolution."""
