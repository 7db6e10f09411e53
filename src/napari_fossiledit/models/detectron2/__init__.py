"""Read and write detectron2's checkpoints without detectron2."""
