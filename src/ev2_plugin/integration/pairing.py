"""The host's model and ours, in every setting that is timed, on the very same parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from fairchem.core.models.base import HydraModel
from fairchem.core.models.equiformer_v2 import equiformer_v2_deprecated
from torch import Tensor, nn
from torch_geometric.data import Batch

from ev2_plugin.integration.backbone import EquiformerV2
from ev2_plugin.integration.fidelity import pinned_frames, relative
from ev2_plugin.integration.stand_ins import our_hydra_settings
from ev2_plugin.integration.timing import Run, require_agreement
from ev2_plugin.model.state_dict import strip_module_prefix

LIMITS = {"highest": 4e-5, "high": 5e-5, "tf32": 2e-2, "bf16": 2e-1, "fp16": 5e-2}
"""Largest relative deviation of an output from the host's in float32 at which timing makes sense.

Both sides round: each may be 2e-5 from float64, hence twice that at `highest`. Of the last three only blunders are
caught here: random weights are worse conditioned than trained ones.
"""
GRADIENT_FACTOR = 10
"""By how much a gradient, of the worst parameter, may be further away than an output."""


@dataclass(frozen=True)
class Setting:
    """A way to run the model.

    Attributes:
        options: Keys of our model section besides the official ones; None for the host's model.
        autocast: Precision of the host's `--amp`, None without.
    """

    options: Mapping[str, Any] | None = field(default_factory=dict)
    autocast: torch.dtype | None = None

    @property
    def precision(self) -> str:
        """Which of `LIMITS` applies."""
        if self.autocast is not None:
            return {torch.float16: "fp16", torch.bfloat16: "bf16"}[self.autocast]
        return (self.options or {}).get("precision", "highest")


HOST = Setting(options=None)
OURS = Setting()


@dataclass(frozen=True)
class Contender:
    """A model in one setting.

    Attributes:
        model: On the device.
        setting: How it is run.
        optimizer: Of the parameters, which all contenders share. Its learning rate is 0, so that all steps start from
            the same weights.
        scaler: Of the loss under fp16.
    """

    model: nn.Module
    setting: Setting
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """All predictions by name."""
        with self._autocast(batch):
            predicted = self.model(batch.clone())
        flat: dict[str, Tensor] = {}
        for name, value in predicted.items():
            flat.update(value if isinstance(value, Mapping) else {name: value})
        return flat

    def infer(self, batch: Batch) -> None:
        """One forward pass as in prediction."""
        self.model.eval()
        with torch.no_grad():
            self.outputs(batch)

    def train_step(self, batch: Batch) -> None:
        """One step of training: forward, backward, optimiser."""
        self.model.train()
        self.optimizer.zero_grad()
        self.scaler.scale(self._loss(batch)).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def release(self) -> None:
        """Free the gradients of the last step."""
        self.optimizer.zero_grad()

    def answer(self, batch: Batch, *, gradients: bool) -> dict[str, Tensor]:
        """Outputs and, if asked for, the parameters' gradients of the training loss in evaluation mode."""
        self.model.eval()
        if not gradients:
            with torch.no_grad():
                return {name: value.float() for name, value in self.outputs(batch).items()}
        self.release()
        outputs = self.outputs(batch)
        self.scaler.scale(_loss(outputs)).backward()
        scale = self.scaler.get_scale()
        found = {name: value.detach().float() for name, value in outputs.items()}
        for name, parameter in self.model.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            found[f"gradient of {name}"] = gradient / scale
        self.release()
        return found

    def _loss(self, batch: Batch) -> Tensor:
        return _loss(self.outputs(batch))

    def _autocast(self, batch: Batch) -> AbstractContextManager[Any]:
        precision = self.setting.autocast
        return torch.autocast(batch.pos.device.type, precision or torch.bfloat16, enabled=precision is not None)


def _loss(outputs: Mapping[str, Tensor]) -> Tensor:
    """Mean absolute energies and stresses, mean force norms."""
    terms = [
        value.float().norm(dim=-1).mean() if name == "forces" else value.float().abs().mean()
        for name, value in outputs.items()
    ]
    return torch.stack(terms).sum()


def contenders(
    settings: Mapping[str, Any],
    wanted: Mapping[str, Setting],
    device: str,
    weights: Mapping[str, Tensor] | None = None,
) -> dict[str, Contender]:
    """Models on the host's parameters.

    Args:
        settings: The model section with the host's names, flat or hydra.
        wanted: Settings by name; the first is the one the others are compared with.
        device: Where they run.
        weights: A state dict of the model; random ones if None.

    Raises:
        ValueError: If the weights do not fit the model.
    """
    torch.manual_seed(0)
    host = host_model(settings)
    if weights is None:
        with torch.no_grad():
            for parameter in host.parameters():  # zero at the start, some of them
                parameter.add_(0.02 * torch.randn_like(parameter))
    else:
        _load(host, weights)
    host = host.to(device)
    parameters = dict(host.named_parameters())
    optimizer = torch.optim.AdamW(host.parameters(), lr=0.0)
    found = {}
    for name, setting in wanted.items():
        model = host if setting.options is None else our_model(settings, setting.options, parameters)
        scaler = torch.amp.GradScaler(device, init_scale=1024.0, enabled=setting.autocast == torch.float16)
        found[name] = Contender(model, setting, optimizer, scaler)
    return found


def _load(host: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give the host's model weights without its tables, which it makes itself."""
    given = {strip_module_prefix(name): value for name, value in weights.items()}
    missing = [name for name, _ in host.named_parameters() if name not in given]
    if missing:
        raise ValueError(f"the weights lack {', '.join(missing[:5])} of the host's model")
    host.load_state_dict(given, strict=False)


def host_model(settings: Mapping[str, Any]) -> nn.Module:
    """The host's model, flat or hydra."""
    return HydraModel(**settings) if "backbone" in settings else equiformer_v2_deprecated.EquiformerV2(**settings)


def our_model(
    settings: Mapping[str, Any], options: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]
) -> nn.Module:
    """Our model of the same settings, holding these very parameters."""
    with torch.device("meta"):
        if "backbone" in settings:
            ours = our_hydra_settings(settings)
            model: nn.Module = HydraModel(**{**ours, "backbone": {**ours["backbone"], **options}})
        else:
            model = EquiformerV2(**{**settings, **options})
    model.load_state_dict(parameters, strict=True, assign=True)
    return model


@dataclass(frozen=True)
class Agreement:
    """What a comparison found.

    Attributes:
        reference: Whose answers the others were compared with: the first for which memory sufficed.
        deviations: For each of the others the relative deviation of each output and, if asked for, of the worst
            gradient.
        too_large: Those for which memory did not suffice.
    """

    reference: str
    deviations: Mapping[str, Mapping[str, float]]
    too_large: tuple[str, ...]


def check(found: Mapping[str, Contender], batch: Batch, *, gradients: bool) -> Agreement:
    """How far the answers of all contenders are apart, edge frames being the same.

    Raises:
        RuntimeError: If one is too far away, or memory suffices for none.
    """
    reference, expected, limit = None, {}, 0.0
    deviations, too_large = {}, []
    for name, contender in found.items():
        own_limit = LIMITS[contender.setting.precision]
        try:
            with pinned_frames():
                actual = contender.answer(batch, gradients=gradients)
        except torch.cuda.OutOfMemoryError:
            too_large.append(name)
            contender.release()
            continue
        if reference is None:
            reference, expected, limit = name, actual, own_limit
        else:
            deviations[name] = _deviation(expected, actual, max(limit, own_limit))
    if reference is None:
        raise RuntimeError(f"memory suffices for none of {list(found)}")
    return Agreement(reference, deviations, tuple(too_large))


def _deviation(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], limit: float) -> dict[str, float]:
    is_gradient = {name: name.startswith("gradient of") for name in expected}
    outputs = {name: relative(actual[name], value) for name, value in expected.items() if not is_gradient[name]}
    require_agreement(outputs, limit)
    if not any(is_gradient.values()):
        return outputs
    floor = 1e-3 * max(float(value.norm()) for name, value in expected.items() if is_gradient[name])
    gradients = {name: relative(actual[name], value, floor) for name, value in expected.items() if is_gradient[name]}
    worst = max(gradients, key=lambda name: gradients[name])
    require_agreement({worst: gradients[worst]}, GRADIENT_FACTOR * limit)
    return {**outputs, "worst gradient": gradients[worst]}


def runs(found: Mapping[str, Contender], method: Callable[[Contender, Batch], None], batch: Batch) -> dict[str, Run]:
    """`Contender.infer` or `Contender.train_step` of each on one batch."""
    return {name: partial(method, contender, batch) for name, contender in found.items()}
