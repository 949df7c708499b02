"""Import-only stand-in for torch-sparse, whose compilation takes 16 CPU-minutes.

The plain `fairchem` command imports every model of the host, and four of them (DimeNet++, GemNet-T, its
graph-parallel form, GemNet-OC) write `from torch_sparse import SparseTensor` at the top. They are imported
here but never run, so a name is enough. Users install the real package with `ev2-plugin[host]`.
"""


class SparseTensor:
    """A name to import; using it is an error."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError("this is a test's stand-in for torch-sparse: install ev2-plugin[host]")
