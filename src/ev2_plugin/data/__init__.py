"""Datasets in the Open Catalyst layout: structures, single-file LMDBs, statistics and prediction files."""
