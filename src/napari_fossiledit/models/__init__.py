"""Instance segmentation models: what they promise, Mask R-CNN, training, checkpoints."""
