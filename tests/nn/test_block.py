from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ev2_plugin.nn.block import TransformerBlock
from ev2_plugin.nn.edge_context import EdgeContext
from helpers.equivariance import edge_context, randomize
from helpers.structures import TINY, assorted, atom_batch

STRUCTURES = assorted()


def block_and_inputs(**changes: float) -> tuple[TransformerBlock, Tensor, EdgeContext, Tensor]:
    config = replace(TINY, **changes)
    block = randomize(TransformerBlock(config.block).double())
    atoms = atom_batch(STRUCTURES, config)
    edges = edge_context(atoms, config.layout, config.edge_scalars.num_inputs)
    x = torch.randn(len(atoms.atomic_numbers), 9, config.sphere_channels, dtype=torch.float64, requires_grad=True)
    return block, x, edges, atoms.batch


def test_two_residual_branches_behind_norms() -> None:
    block, x, edges, batch = block_and_inputs()
    middle = x + block.ga(block.norm_1(x), edges)
    expected = middle + block.ffn(block.norm_2(middle))
    torch.testing.assert_close(block(x, edges, batch, len(STRUCTURES)), expected)


@pytest.mark.filterwarnings("ignore:.torch.cpu.amp.autocast:FutureWarning")  # torch 2.4's own checkpoint
def test_checkpoint_gives_the_same_gradients_and_keeps_less() -> None:
    block, x, edges, batch = block_and_inputs(alpha_drop=0.3, drop_path_rate=0.3, proj_drop=0.3)
    block.train()
    results, kept = [], []
    for recompute in (False, True):
        torch.manual_seed(5)  # the recomputation must draw the same dropouts
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            if recompute:
                out = checkpoint(block, x, edges, batch, len(STRUCTURES), use_reentrant=False)
            else:
                out = block(x, edges, batch, len(STRUCTURES))
        kept.append(sum(sizes))
        gradients = torch.autograd.grad(out.sin().sum(), [x, *block.parameters()], allow_unused=True)
        results.append([out, *(gradient for gradient in gradients if gradient is not None)])
    assert len(results[0]) == len(results[1])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert kept[1] < kept[0] / 10


def test_stochastic_depth_leaves_whole_structures_out() -> None:
    block, x, edges, batch = block_and_inputs(drop_path_rate=0.7)
    block.train()
    unchanged = set()
    for seed in range(10):
        torch.manual_seed(seed)
        same = (block(x, edges, batch, len(STRUCTURES)) == x).all(dim=2).all(dim=1)
        for structure in range(len(STRUCTURES)):
            assert len(same[batch == structure].unique()) == 1
        unchanged |= set(batch[same].tolist())
    assert unchanged == set(range(len(STRUCTURES)))


def test_dropout_of_branches_only_in_training() -> None:
    for key in ("alpha_drop", "drop_path_rate", "proj_drop"):
        block, x, edges, batch = block_and_inputs(**{key: 0.5})
        block.eval()
        assert torch.equal(*(block(x, edges, batch, len(STRUCTURES)) for _ in range(2)))
        block.train()
        assert not torch.equal(*(block(x, edges, batch, len(STRUCTURES)) for _ in range(2)))
