import torch

from ev2_plugin.graph.edge_graph import EdgeGraph, sort_by_receiver


def test_edges_are_sorted_by_receiver_and_keep_their_order() -> None:
    senders, receivers = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([3, 1, 3, 0, 1])
    vectors = torch.arange(15.0).view(5, 3)
    graph = sort_by_receiver(senders, receivers, vectors, num_nodes=5)
    assert graph.receivers.tolist() == [0, 1, 1, 3, 3]
    assert graph.senders.tolist() == [3, 1, 0, 0, 2]
    assert graph.vectors[:, 0].tolist() == [9, 3, 12, 0, 6]
    assert graph.row_pointers.tolist() == [0, 1, 3, 3, 5, 5]


def test_distances() -> None:
    none = torch.zeros(1, dtype=torch.int64)
    graph = EdgeGraph(none, none, torch.tensor([[1.0, -2.0, 2.0]]), 1)
    assert graph.distances.tolist() == [3.0]
