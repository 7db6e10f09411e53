"""Parts of several actions: sources of instances, models by name, ground truth, reports."""
