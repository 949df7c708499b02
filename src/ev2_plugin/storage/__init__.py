"""Files that are there as a whole or not at all, that show damage, and that execute nothing when they are read."""
