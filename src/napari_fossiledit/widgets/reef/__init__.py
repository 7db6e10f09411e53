"""The dock Reef model: link, look at and export specimens."""
