"""Layers. Attribute names are those of the official code, because every published checkpoint is keyed by them."""
