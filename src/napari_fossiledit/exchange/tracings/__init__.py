"""Annotations made elsewhere: COCO, label images, outlines."""
