"""What the machine can do at best, measured: rate of large matrix products and of copying."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ev2_plugin.integration.timing import alternating

GEMM_SIZE = {"cpu": 2048, "cuda": 8192}
COPY_NUMBERS = {"cpu": 2**26, "cuda": 2**29}


@dataclass(frozen=True)
class Ceilings:
    """Best rates of this machine, in float32.

    Attributes:
        flops: Floating-point operations per second of a large square matrix product.
        bandwidth: Bytes per second, read and written, of copying what fits no cache.
    """

    flops: float
    bandwidth: float

    def floor(self, flops: float, num_bytes: float) -> tuple[float, str]:
        """The least time in seconds for so much work, and which of the two decides it."""
        arithmetic, memory = flops / self.flops, num_bytes / self.bandwidth
        return max(arithmetic, memory), "arithmetic" if arithmetic > memory else "memory"


def measure_ceilings(device: str, *, share: float = 1.0) -> Ceilings:
    """Time one product and one copy; `share` makes them smaller."""
    size, numbers = int(share * GEMM_SIZE[device]), int(share * COPY_NUMBERS[device])
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    source, target = (torch.zeros(numbers, device=device) for _ in range(2))
    best = alternating({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, 5, device)
    return Ceilings(2 * size**3 / best["product"]["low"], 8 * numbers / best["copy"]["low"])
