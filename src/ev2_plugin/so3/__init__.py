"""Rotations, spherical-harmonic layouts and sphere grids: pure functions, tensors in and tensors out."""
