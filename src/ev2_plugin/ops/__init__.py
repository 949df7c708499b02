"""The hot operations as functions: a plain reference for each, faster forms beside it.

Every form of an operation takes the same arguments and shares the layer's parameters; which one runs is decided by
the model's `backend` key, never inside a layer.
"""
