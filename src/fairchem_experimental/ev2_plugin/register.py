"""Read by fairchem when it starts: makes the plugin's short model names known to a plain `fairchem` run.

Installed as `fairchem/experimental/ev2_plugin/register.py`, a folder that `fairchem.core` looks into
(`setup_experimental_imports`). An import error here ends the run with its own traceback.
"""

from ev2_plugin.integration.registration import register

register()
