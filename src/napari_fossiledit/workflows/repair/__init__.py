"""From one wrong mask to a judged edit."""
