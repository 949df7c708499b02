from io import StringIO

from rich.console import Console

from ev2_plugin.evaluation.breakdowns import Evaluation
from ev2_plugin.evaluation.estimates import Estimate
from ev2_plugin.evaluation.tables import breakdown_table, metrics_table

METRICS = {
    "energy_mae": Estimate(0.25, 0.01, 1200, 40),
    "energy_within_threshold": Estimate(0.125, None, 1200, 1),
    "forces_cosine": Estimate(0.5, 0.001, 9000, 40),
}


def printed(table) -> str:
    console = Console(width=80, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_shares_are_percent_and_the_rest_are_numbers():
    text = printed(metrics_table(Evaluation("predictions", 1200, 40, METRICS, {})))
    assert "1,200 predictions of 40 systems" in text
    rows = {line.split("│")[1].strip(): line.split("│")[2:5] for line in text.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in rows["energy MAE [eV]"]] == ["0.2500", "0.0100", "1,200"]
    assert [cell.strip() for cell in rows["EwT"]] == ["12.50%", "", "1,200"]
    assert [cell.strip() for cell in rows["force cosine"]] == ["0.5000", "0.0010", "9,000"]


def test_groups_fit_a_terminal_largest_first():
    names = (
        "energy_mae",
        "distance",
        "average_distance_within_threshold",
        "largest_force",
        "average_force_below_threshold",
    )
    groups = {f"ads{index}": {name: Estimate(0.5, 0.1, index, 2) for name in names} for index in range(1, 31)}
    text = printed(breakdown_table(Evaluation("relaxations", 9, 9, METRICS, {"adsorbate": groups}), "adsorbate"))
    assert "by adsorbate: 20 of 30" in text
    assert "…" not in text
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("ads") and "0.5" in line]
    assert [row[0] for row in rows] == [f"ads{index}" for index in range(30, 10, -1)]
    assert rows[0] == ["ads30", "30", "0.5000", "0.5000", "50.00%", "0.5000", "50.00%"]


def test_ranges_keep_their_order_and_are_counted_by_atoms():
    groups = {
        "below 1 eV/Å": {"forces_cosine": Estimate(0.5, 0.1, 10, 2)},
        "from 1 eV/Å": {"forces_cosine": Estimate(0.9, 0.1, 90, 2)},
    }
    text = printed(breakdown_table(Evaluation("predictions", 9, 9, METRICS, {"force": groups}), "force"))
    assert text.index("below 1") < text.index("from 1")
    assert "atoms" in text
