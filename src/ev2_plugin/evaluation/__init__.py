"""How good predictions and relaxations are: the metrics of OC20 and OC22, by element and adsorbate, with figures."""
