"""What a model looks at: how much each pixel and channel changes what it says of instances."""
