"""Everything that touches fairchem: models as it calls them, its launcher, its registry, its checkpoints."""
