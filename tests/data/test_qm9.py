"""Small raw files of QM9 in each form; values of methane and ammonia as published."""

import io
import tarfile
from pathlib import Path

import pytest
import torch
import torch_geometric.datasets
import yaml

from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.data.prepare import Preparation, prepare
from ev2_plugin.data.qm9 import TARGETS, download_qm9, find_qm9, read_qm9
from ev2_plugin.data.recipe import Recipe

HARTREE = 27.211386246
RECIPE = Recipe(
    "qm9/tiny.yml",
    {"model": {"max_radius": 5.0, "max_neighbors": 500}, "dataset": {"train": {"key_mapping": {"U0": "property"}}}},
)
# symbol, x, y, z [Å] (rounded) and properties in the order of the csv file, without the atomisation energies
MOLECULES = {
    1: (
        [("C", -0.0127, 1.0858, 0.008), ("H", 0.0022, -0.006, 0.002), ("H", 1.0117, 1.4638, 0.0003)]
        + [("H", -0.5408, 1.4475, -0.8766), ("H", -0.5238, 1.4379, 0.9064)],
        (157.7118, 157.70997, 157.70699, 0.0, 13.21, -0.3877, 0.1171, 0.5048, 35.3641, 0.044749)
        + (-40.47893, -40.476062, -40.475117, -40.498597, 6.469),
        (-395.999594594, -398.643290011, -401.014646522, -372.471772148),
    ),
    2: (
        [("N", -0.0404, 1.0241, 0.0626), ("H", 0.0173, 0.0125, -0.0274), ("H", 0.9158, 1.3587, -0.0288)]
        + [("H", -0.5203, 1.3435, -0.7755)],
        (293.60975, 293.54111, 191.39397, 1.6256, 9.46, -0.257, 0.0829, 0.3399, 26.1563, 0.034358)
        + (-56.525887, -56.523026, -56.522082, -56.544961, 6.316),
        (-276.861363363, -278.620270645, -280.399259105, -259.338802019),
    ),
    3: (
        [("O", -0.0344, 0.9775, 0.0076), ("H", 0.0648, 0.0206, 0.0015), ("H", 0.8718, 1.3008, 0.0007)],
        (799.58812, 437.90386, 282.94545, 1.8511, 6.31, -0.2928, 0.0687, 0.3615, 19.0002, 0.021375)
        + (-76.404702, -76.401867, -76.400922, -76.422349, 6.002),
        (-213.087624143, -213.974294294, -215.159658471, -201.407171278),
    ),
}
HEADER = "mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv,u0_atom,u298_atom,h298_atom,g298_atom"


def write_uncharacterized(folder: Path, *indices: int) -> None:
    lines = ["header"] * 9 + [f"{index}  smiles  smiles" for index in indices] + ["last", ""]
    (folder / "uncharacterized.txt").write_text("\n".join(lines))


def write_sdf(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    records, rows = [], [HEADER]
    for index, (atoms, values, atomisation) in MOLECULES.items():
        lines = [f"gdb_{index}", "     RDKit", "", f"{len(atoms):3}  0  0  0  0  0  0  0  0  0999 V2000"]
        lines += [f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol}   0  0" for symbol, x, y, z in atoms]
        records.append("\n".join([*lines, "M  END", "$$$$", ""]))
        rows.append(",".join(map(str, (f"gdb_{index}", *values, *atomisation))))
    (folder / "gdb9.sdf").write_text("".join(records))
    (folder / "gdb9.sdf.csv").write_text("\n".join(rows) + "\n")
    write_uncharacterized(folder, 2)


def molecule_file(index: int) -> str:
    atoms, values, _ = MOLECULES[index]
    lines = [str(len(atoms)), "\t".join(map(str, ("gdb " + str(index), *values)))]
    lines += [f"{symbol}\t{x}\t{y}\t{z}\t-0.1" for symbol, x, y, z in atoms]
    text = "\n".join([*lines, "1341.3\t1341.3", "C\tC", "InChI=1S\tInChI=1S"]) + "\n"
    return text.replace("0.0003\t", "3.0*^-4\t")


def write_molecules(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in MOLECULES:
        (folder / f"dsgdb9nsd_{index:06}.xyz").write_text(molecule_file(index))
    write_uncharacterized(folder, 2)


def write_archive(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "dsgdb9nsd.xyz.tar.bz2", "w:bz2") as archive:
        for index in MOLECULES:
            content = molecule_file(index).encode()
            member = tarfile.TarInfo(f"./dsgdb9nsd_{index:06}.xyz")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    write_uncharacterized(folder, 2)


def write_pyg(folder: Path) -> None:
    """The file that torch_geometric has for installations without rdkit: unconfirmed molecules are gone already."""
    folder.mkdir(parents=True, exist_ok=True)
    write_sdf(folder / "other")
    molecules = [data for data, _ in read_qm9(find_qm9(folder / "other")[0])]
    stored = [
        {
            "z": data.atomic_numbers,
            "pos": data.pos,
            "y": torch.tensor([[data[target] for target in TARGETS]], dtype=torch.float32),
            "idx": data.sid,
            "name": f"gdb_{data.sid + 1}",
        }
        for data in molecules
    ]
    for path in (folder / "other").iterdir():
        path.unlink()
    torch.save(stored, folder / "qm9_v3.pt")


@pytest.mark.parametrize("write", [write_sdf, write_molecules, write_archive, write_pyg])
def test_each_form_gives_the_same_molecules(tmp_path, write):
    write(tmp_path / "raw")
    molecules = [data for chunk in find_qm9(tmp_path) for data, _ in read_qm9(chunk)]
    assert [data.sid for data in molecules] == [0, 2]
    methane, water = molecules
    tolerance = 1e-3 if write is write_pyg else 1e-6  # float32 has 1e-4 eV at a thousand
    assert pytest.approx(-40.47893 * HARTREE, abs=tolerance) == methane.U0
    assert pytest.approx(-395.999594594 * 0.04336414, abs=2e-3) == methane.U0_atom
    assert pytest.approx(-215.159658471 * 0.04336414, abs=2e-3) == water.H_atom
    assert methane.gap == pytest.approx(0.5048 * HARTREE, abs=1e-5)
    assert (methane.mu, methane.alpha, methane.r2) == pytest.approx((0.0, 13.21, 35.3641))
    assert pytest.approx((799.58812, 437.90386, 282.94545)) == (water.A, water.B, water.C)
    assert pytest.approx(6.002) == water.Cv
    assert methane.atomic_numbers.tolist() == [6, 1, 1, 1, 1]
    torch.testing.assert_close(methane.pos[2], torch.tensor([1.0117, 1.4638, 0.0003]), atol=1e-5, rtol=0)
    assert methane.pbc.tolist() == [[False] * 3]
    assert not methane.tags.any()
    assert not methane.fixed.any()
    assert set(TARGETS) <= set(methane.keys())


def test_a_dataset_has_one_key_per_target_and_leaves_the_scale_to_the_recipe(tmp_path):
    write_sdf(tmp_path / "raw")
    out = tmp_path / "out"
    wanted = Preparation(out, (tmp_path / "raw",), RECIPE, task="qm9", shares=(0.5, 0.5, 0.0))
    outcome = prepare(wanted)
    assert outcome.report["labels"] is None
    assert {data.sid for split in ("train", "val") for data in read_lmdb(out / split / "data.0000.lmdb")} == {0, 2}
    train = yaml.safe_load((out / "run.yml").read_text())["dataset"]["train"]
    assert train == {"format": "lmdb", "src": str(out / "train")}


def test_a_few_molecules_need_shares(tmp_path):
    write_sdf(tmp_path / "raw")
    with pytest.raises(ValueError, match="2 molecules are not all of QM9"):
        prepare(Preparation(tmp_path / "out", (tmp_path / "raw",), RECIPE, task="qm9"))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds none of QM9's raw files"):
        find_qm9(tmp_path)
    write_sdf(tmp_path)
    (tmp_path / "uncharacterized.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"gdb9.sdf needs uncharacterized.txt beside it"):
        find_qm9(tmp_path)


def truncate(path: Path) -> None:
    path.write_text(path.read_text()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gdb9.sdf", truncate, r"gdb9.sdf (ends within a molecule|has 2 molecules)"),
        ("gdb9.sdf", lambda path: path.write_text(path.read_text() * 2), "more molecules than .* rows"),
        ("gdb9.sdf", lambda path: path.write_text(path.read_text().replace("C   0", "Xx   0")), "no V2000 record"),
        ("gdb9.sdf.csv", lambda path: path.write_text(path.read_text().replace("u298,", "u299,")), "columns are"),
        (
            "gdb9.sdf.csv",
            lambda path: path.write_text(path.read_text().replace("13.21", "nan")),
            "1: alpha is nan",
        ),
        ("uncharacterized.txt", lambda path: path.write_text("h\n" * 30), "is no list of molecules: 'h'"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, name, change, message):
    write_sdf(tmp_path)
    change(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        list(read_qm9(find_qm9(tmp_path)[0]))


def test_a_molecule_file_that_breaks_off_is_refused(tmp_path):
    write_molecules(tmp_path)
    path = tmp_path / "dsgdb9nsd_000003.xyz"
    path.write_text("\n".join(path.read_text().splitlines()[:4]))
    with pytest.raises(ValueError, match=r"dsgdb9nsd_000003.xyz: 2 of 3 atoms"):
        list(read_qm9(find_qm9(tmp_path)[0]))


def test_torch_geometric_downloads_the_raw_files_only(tmp_path, monkeypatch):
    def download(self: torch_geometric.datasets.QM9) -> None:
        write_sdf(Path(self.raw_dir))

    monkeypatch.setattr(torch_geometric.datasets.QM9, "download", download)
    download_qm9(tmp_path / "qm9")
    assert len(list(read_qm9(find_qm9(tmp_path / "qm9")[0]))) == 2

    def fail(self: torch_geometric.datasets.QM9) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch_geometric.datasets.QM9, "download", fail)
    with pytest.raises(ConnectionError, match="cannot download QM9 into .*no route to host"):
        download_qm9(tmp_path / "other")
