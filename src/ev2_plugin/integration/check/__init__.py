"""A dry run of a training config: what it would do, or the one thing that is wrong with it."""
