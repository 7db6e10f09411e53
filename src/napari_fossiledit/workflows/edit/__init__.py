"""Rewrite a model: solve for an edit, choose its strength, judge it, keep it or roll back."""
