"""The hot operations as functions: a plain reference for each, faster forms beside it.

Every form of an operation takes the same arguments and shares the layer's parameters; which one runs is decided by
the model's `backend` key, never inside a layer.

Where gradients pass a gather, it is written as indexing (`x[index]`), whose gradient torch sums in a fixed order on
every device; that of `index_select` uses atomics on GPUs.
"""
