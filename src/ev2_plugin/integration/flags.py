"""The flags of the `fairchem` command, with the plugin's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from fairchem.core.common.flags import Flags

from ev2_plugin.integration.run_config import TRUST_HELP
from ev2_plugin.integration.slurm import CLUSTERS

_FAIRCHEM_EXAMPLE = (
    "Example: ev2 fairchem --mode validate --config-yml data/mine/run.yml --checkpoint best_checkpoint.pt"
)
_TRAIN_EXAMPLE = "Example: ev2 train data/mine/run.yml --run-dir runs --optim.max_epochs=3"


def fairchem_parser(program: str = "ev2 fairchem") -> argparse.ArgumentParser:
    """The host's parser, and where `--submit` runs and whether files are trusted besides.

    Args:
        program: Name of the command in messages.
    """
    parser = Flags().get_parser()
    parser.prog, parser.epilog = program, _FAIRCHEM_EXAMPLE
    parser.description = (
        "fairchem's own command with EquiformerV2 of this plugin; --key.sub=value overrides the run file."
    )
    parser.add_argument(
        "--cluster",
        choices=CLUSTERS,
        default="slurm",
        help="Where --submit runs: SLURM, or this machine, in the background",
    )
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    return parser


def train_parser() -> argparse.ArgumentParser:
    """The same flags where it is clear that the run trains, and the run file comes first."""
    parser = argparse.ArgumentParser(
        prog="ev2 train",
        description="Train as a run file says; --key.sub=value overrides it. Like `ev2 fairchem --mode train`.",
        epilog=_TRAIN_EXAMPLE,
        parents=[fairchem_parser()],
        conflict_handler="resolve",
    )
    parser.add_argument("--mode", choices=("train",), default="train", help=argparse.SUPPRESS)
    parser.add_argument("--config-yml", type=_needs_no_flag, help=argparse.SUPPRESS)
    parser.add_argument("config_yml", type=Path, metavar="CONFIG", help="Run file, here or among those of the plugin")
    return parser


def _needs_no_flag(path: str) -> Path:
    raise argparse.ArgumentTypeError(f"the run file needs no flag here: ev2 train {path}")
