"""The dock Stack: make or open a project, convert its stack."""
