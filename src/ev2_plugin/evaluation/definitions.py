"""Name, unit and definition of each metric."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """What a number is.

    Attributes:
        label: For tables.
        unit: "1" for shares and cosines.
        text: How it is computed.
    """

    label: str
    unit: str
    text: str

    @property
    def is_share(self) -> bool:
        """Whether it is a share of structures, to be written in percent."""
        return self.text.startswith("share")


DEFINITIONS = {
    "energy_mae": Definition("energy MAE", "eV", "mean absolute error of the energies"),
    "energy_within_threshold": Definition("EwT", "1", "share of structures with an energy error below 0.02 eV"),
    "forces_mae": Definition(
        "force MAE", "eV/Å", "mean absolute error over all Cartesian components of the forces on free atoms"
    ),
    "forces_cosine": Definition(
        "force cosine", "1", "mean cosine of the angle between predicted and true force over all free atoms"
    ),
    "forces_magnitude_error": Definition(
        "force length MAE", "eV/Å", "mean absolute error of the length of the force over all free atoms"
    ),
    "energy_forces_within_threshold": Definition(
        "EFwT",
        "1",
        "share of structures with an energy error below 0.02 eV and no force component of a free atom off by 0.03 eV/Å",
    ),
    "distance": Definition(
        "mean distance",
        "Å",
        "mean over structures of the mean distance of the free atoms from the reference, shortest over periodic images",
    ),
    "average_distance_within_threshold": Definition(
        "ADwT",
        "1",
        "share of structures whose mean distance of the free atoms from the reference is below a threshold, averaged "
        "over the thresholds 0.010, 0.011, ..., 0.499 Å",
    ),
    "largest_force": Definition(
        "largest force",
        "eV/Å",
        "mean over relaxed structures of the largest length of a force on a free atom, by the force oracle",
    ),
    "force_below_threshold": Definition(
        "FbT",
        "1",
        "share of relaxed structures whose largest force on a free atom, by the force oracle, is below 0.05 eV/Å; the "
        "threshold is the commonly cited one and not verified against a ranking server",
    ),
    "average_force_below_threshold": Definition(
        "AFbT",
        "1",
        "share of relaxed structures whose largest force on a free atom, by the force oracle, is below a threshold, "
        "averaged over the thresholds 0.010, 0.011, ..., 0.400 eV/Å; the range is the commonly cited one and not "
        "verified against a ranking server",
    ),
}
