"""An installed detectron2 that computes and trains."""
