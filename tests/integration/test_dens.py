import torch

from ev2_plugin.integration.dens import plain_weights


def test_encodings_are_added_in_the_hosts_order_to_the_last_bit() -> None:
    table, force, noise = torch.tensor([[1.0]]), torch.tensor([2.0**-24]), torch.tensor([2.0**-23])
    weights = {
        "sphere_embedding.weight": table,
        "force_embedding.bias": force,
        "noise_schedule_sigma_embedding.bias": noise,
    }
    plain = plain_weights(weights)
    assert list(plain) == ["sphere_embedding.weight"]
    assert torch.equal(plain["sphere_embedding.weight"], (table + force) + noise)
    assert not torch.equal((table + force) + noise, (table + noise) + force)
    assert torch.equal(weights["sphere_embedding.weight"], torch.ones(1, 1))


def test_other_weights_stay_as_they_are() -> None:
    weights = {"sphere_embedding.weight": torch.ones(1, 1), "energy_block.x": torch.ones(2)}
    assert plain_weights(weights) == weights
