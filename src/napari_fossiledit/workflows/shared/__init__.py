"""What several actions need: sources of instances, models by name, ground truth, reports."""
