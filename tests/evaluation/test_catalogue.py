import json

import pytest
import torch

from ev2_plugin.evaluation.catalogue import CatalogueBuilder, identifier_of, read_adsorbate_names, system_of


def test_identifiers_are_those_of_result_files(random_data):
    data = random_data(12, 3)
    assert (system_of(data), identifier_of(data)) == ("12", "12_3")
    data.sid, data.fid = torch.tensor([12]), torch.tensor(3)
    assert (system_of(data), identifier_of(data)) == ("12", "12_3")
    assert identifier_of(random_data(12, None)) == "12"


def test_adsorbates_are_named_by_composition_or_by_a_file(random_data, tmp_path):
    structures = [random_data(0), random_data(1), random_data(1, 4)]
    structures[2].tags[:] = 1
    builder = CatalogueBuilder()
    for data in structures:
        builder.add(identifier_of(data), data)
    found = builder.build("set")
    assert found.adsorbates.tolist() == ["CO", "HO", "none"]
    assert found.systems.tolist() == [0, 1, 1]
    assert found.natoms.tolist() == [data.natoms for data in structures]

    path = tmp_path / "names.json"
    path.write_text(json.dumps({"random0": "*CO"}))
    builder = CatalogueBuilder(read_adsorbate_names(path))
    builder.add("0_0", structures[0])
    with pytest.raises(ValueError, match="does not name that of system 1"):
        builder.add("1_0", structures[1])
    assert builder.build("set").adsorbates.tolist() == ["*CO"]


@pytest.mark.parametrize(("text", "said"), [("[1]", "must map systems"), ('{"1": 2}', "must map"), ("{", "no JSON")])
def test_other_files_of_names_are_refused(tmp_path, text, said):
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_adsorbate_names(path)
