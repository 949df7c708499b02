"""Adsorption energies by AdsorbML (arXiv:2211.16486): which placements count, which are computed, how good that is."""
