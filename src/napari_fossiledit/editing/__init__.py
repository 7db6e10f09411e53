"""Rewriting a model: the weights that map what it sees to what it should see."""
