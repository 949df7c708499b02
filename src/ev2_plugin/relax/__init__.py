"""Relaxation of many structures at once: batches that structures leave when they are done and others enter."""
