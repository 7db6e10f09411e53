"""The dock Segment: predict, train, evaluate, correct, manage models."""
