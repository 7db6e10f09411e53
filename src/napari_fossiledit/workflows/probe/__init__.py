"""Find out where a model is wrong, with perturbed slices."""
