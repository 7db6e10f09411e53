"""The dock Start here, opening of projects, sample data."""
