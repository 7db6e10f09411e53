"""Specimens by learned shape and texture: embedded, trained, judged, named, mapped."""
