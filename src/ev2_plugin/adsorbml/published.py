"""Published AdsorbML results on OC20-Dense (973 systems), to set one's own beside."""

from __future__ import annotations

from dataclasses import dataclass

SYSTEMS = 973
"""Systems scored: every published rate is a whole number of them."""


@dataclass(frozen=True)
class PublishedModel:
    """A row of the table, single points on the relaxed structures of one model.

    Attributes:
        name: As published.
        gpu_seconds: Per relaxation; None where not published.
        success_rates: Percent, for k = 1 to 5.
        speedups: By electronic steps, for k = 1 to 5.
    """

    name: str
    gpu_seconds: float | None
    success_rates: tuple[float, float, float, float, float]
    speedups: tuple[float, float, float, float, float]


MODELS = (
    PublishedModel("SchNet", None, (2.77, 3.91, 4.32, 4.73, 5.04), (4266.13, 2155.36, 1458.77, 1104.88, 892.79)),
    PublishedModel("DimeNet++", None, (5.34, 7.61, 8.84, 10.07, 10.79), (4271.23, 2149.78, 1435.21, 1081.96, 865.20)),
    PublishedModel("PaiNN", None, (27.44, 33.61, 36.69, 38.64, 39.57), (4089.77, 2077.65, 1395.55, 1048.63, 840.44)),
    PublishedModel("GemNet-OC", 9.4, (68.76, 77.29, 80.78, 81.50, 82.94), (4185.18, 2087.11, 1392.51, 1046.85, 840.25)),
    PublishedModel(
        "GemNet-OC-MD", 9.4, (68.76, 78.21, 81.81, 83.25, 84.38), (4182.04, 2092.27, 1404.11, 1053.36, 841.64)
    ),
    PublishedModel(
        "GemNet-OC-MD-Large", 45.0, (73.18, 79.65, 83.25, 85.41, 86.02), (4078.76, 2065.15, 1381.39, 1041.50, 834.46)
    ),
    PublishedModel(
        "SCN-MD-Large", 120.0, (77.80, 84.28, 86.33, 87.36, 87.77), (3974.21, 1989.32, 1331.43, 1004.40, 807.00)
    ),
    PublishedModel(
        "EquiformerV2 31M", 12.2, (84.17, 87.15, 87.87, 88.69, 89.31), (3983.41, 1992.64, 1331.35, 1000.62, 802.95)
    ),
    PublishedModel(
        "EquiformerV2 153M", 45.0, (85.41, 88.90, 90.54, 91.06, 91.57), (4001.71, 2012.47, 1352.08, 1016.31, 815.87)
    ),
)
"""Source: EquiformerV2 (arXiv:2306.12059), Table 3; both EquiformerV2 trained on All+MD with energy weight 4."""
