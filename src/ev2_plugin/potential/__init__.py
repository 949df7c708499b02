"""All that relaxations and adsorption energies know about a model: structures in, energies and forces out."""
