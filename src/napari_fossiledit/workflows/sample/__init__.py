"""The sample reef and the demo."""
