"""What may go wrong in an evaluation: too little memory, which a smaller batch mends, and faults, which end the run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ev2_plugin.potential.protocol import Potential, Prediction
from ev2_plugin.potential.structures import Structures

_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    # what lies beside PyTorch's own allocations: kernels that are loaded when they are first called, cuBLAS's workspace
    "CUDA error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""In the messages of errors that have no class of their own."""


class RelaxationError(ValueError):
    """A structure cannot be evaluated; the message names it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch might do; every other error is a real one."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
    )


@dataclass(frozen=True)
class OutOfMemory:
    """The memory does not suffice for a batch.

    Attributes:
        reason: What was said of it. (Not the error: its frames hold the tensors of the failed evaluation.)
    """

    reason: str


def evaluate(potential: Potential, structures: Structures) -> Prediction | OutOfMemory:
    """Energies and forces, or that the memory does not suffice for the batch.

    Raises:
        RelaxationError: If a structure cannot be evaluated, alone neither, or its energy or forces are not finite.
    """
    try:
        prediction = potential(structures)
    except Exception as error:  # each potential has its own; all are raised again but a lack of memory
        if not is_out_of_memory(error):
            raise _blame(error, potential, structures) from error
        return OutOfMemory(str(error))
    _check_finite(prediction, structures)
    return prediction


def _blame(error: Exception, potential: Potential, structures: Structures) -> RelaxationError:
    """Find the structure that fails by itself."""
    if "CUDA error" in str(error) and len(structures) > 1:  # after which every evaluation fails
        return RelaxationError(f"one of the structures {', '.join(structures.ids)}: {error}")
    for index, name in enumerate(structures.ids):
        if len(structures) == 1:
            return fault_of(name, error)
        try:
            potential(structures.select([index]))
        except Exception as own:  # likewise
            if not is_out_of_memory(own):
                return fault_of(name, own)
    names = ", ".join(structures.ids)
    return RelaxationError(f"structures {names} together, though each alone can be evaluated: {error}")


def fault_of(name: str, error: Exception) -> RelaxationError:
    """What is wrong with a structure, by its id, which the error may name already."""
    who, what = f"structure {name}: ", str(error)
    return RelaxationError(what if what.startswith(who) else who + what)


def _check_finite(prediction: Prediction, structures: Structures) -> None:
    bad_atoms = ~torch.isfinite(prediction.forces).all(dim=-1)
    bad = ~torch.isfinite(prediction.energy) | torch.zeros_like(prediction.energy, dtype=torch.bool).index_put(
        (structures.batch,), bad_atoms, accumulate=True
    )
    if bad.any():
        names = [structures.ids[index] for index in bad.nonzero()[:, 0].tolist()]
        raise RelaxationError(f"structure {names[0]}: its predicted energy or forces are not finite numbers")
