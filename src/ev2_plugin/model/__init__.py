"""EquiformerV2 in plain PyTorch: configuration, backbone, heads."""
