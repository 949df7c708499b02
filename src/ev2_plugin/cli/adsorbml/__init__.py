"""`ev2 adsorbml`: adsorption energies by AdsorbML, one sub-command per stage of a campaign."""

from ev2_plugin.cli.adsorbml import placing, relaxing, scoring, selecting  # noqa: F401  they add their commands
from ev2_plugin.cli.adsorbml.app import app as adsorbml

__all__ = ["adsorbml"]
