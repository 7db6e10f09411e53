"""Finding and correcting what is wrong with the user's masks."""
