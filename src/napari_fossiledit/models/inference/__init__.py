"""From a slice to instances: what a segmenter promises, and Mask R-CNN."""
