"""The page *Morphospace*: fossils as points, those that look alike near one another."""
