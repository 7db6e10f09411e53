"""The dock Probe & Edit: perturb, probe, edit, repair, history."""
