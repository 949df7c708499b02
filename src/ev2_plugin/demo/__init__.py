"""The demo: adsorbates on metal slabs labelled by ASE's EMT potential, learned and relaxed end to end."""
