"""The run files among the shipped configs; those in folders of parts are only included."""

from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"
_FOLDERS = ("oc20", "oc20/ablations", "oc22", "qm9")

RUN_FILES = {
    str(path.relative_to(CONFIGS).with_suffix("")): path
    for folder in _FOLDERS
    for path in sorted((CONFIGS / folder).glob("*.yml"))
}
"""Path of each run file by its name, such as `oc20/s2ef_2M_83M`."""
