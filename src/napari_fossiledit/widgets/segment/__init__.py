"""The page Segment: predict, train, evaluate, manage models."""
