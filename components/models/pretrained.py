"""Weights from a local file, copied into a model's body as far as names and shapes allow.

A .safetensors file by our names (also those of an exported model, `net.stem.0.weight`) or by torchvision's, where a
model has `from_torchvision`. A layer is copied whole or not at all, the output layer never. Nothing is unpickled: a
.pth file is refused with the line that converts it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import Refusal

HEAD = "head."
SHOWN = 4  # tensors that a line names
CONVERSION = (
    "python -c \"import torch, safetensors.torch as s; s.save_file(torch.load('{0}', weights_only=True), '{1}')\""
)


@dataclass(frozen=True)
class Match:
    """What of a file fits a model."""

    file: Path
    found: dict[str, Tensor]  # by the model's names
    left: dict[str, str]  # the body's tensors that stay as they were -> why

    def __str__(self) -> str:
        """`60 of 62 tensors of the body from resnet18.safetensors; as they were: stem.0.weight ([64, 3, 7, 7] ...`."""
        told = f"{len(self.found)} of {len(self.found) + len(self.left)} tensors of the body from {self.file.name}"
        some = ", ".join(f"{name} ({why})" for name, why in list(self.left.items())[:SHOWN])
        more = f" and {len(self.left) - SHOWN} more" if len(self.left) > SHOWN else ""
        return f"{told}; as they were: {some}{more}" if self.left else told


def load_tensors(file: Path, where: str) -> dict[str, Tensor]:
    """All of a .safetensors file. `where`: the recipe's key, for what is refused."""
    if file.suffix != ".safetensors":
        command = CONVERSION.format(file, file.with_suffix(".safetensors"))
        raise Refusal(f"{where}: {file} is no .safetensors file, and nothing is unpickled here; convert it: {command}")
    if not file.is_file():
        raise Refusal(f"{where}: {file}: no such .safetensors file; put it there, or name another")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise Refusal(f"{where}: {file} is no whole .safetensors file ({error}); take the original") from None


def match_weights(net: nn.Module, file: Path, where: str) -> Match:
    """What the file has for the body of `net`; refuses a file that has nothing."""
    saved = {name.removeprefix("net."): tensor for name, tensor in load_tensors(file, where).items()}
    own = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(HEAD)}
    translated: Callable[..., dict[str, Tensor]] | None = getattr(net, "from_torchvision", None)
    if translated and not own.keys() & saved.keys():
        saved = translated(saved)
    left = dict.fromkeys(own.keys() - saved.keys(), "not in the file")
    for name in own.keys() & saved.keys():
        if saved[name].shape != own[name].shape:
            left[name] = f"{list(saved[name].shape)} there, {list(own[name].shape)} here"
    odd = {_layer(name) for name in left if name in saved}
    for name in own.keys() - left.keys():
        if _layer(name) in odd:
            left[name] = "its layer differs"
    found = {name: saved[name] for name in own if name not in left}
    if not found:
        known = ", ".join(list(saved)[:SHOWN]) or "nothing"
        raise Refusal(
            f"{where}: of {file} nothing fits the model, whose tensors are called {', '.join(list(own)[:SHOWN])}, ...;"
            f" it holds {known}, ...; name weights of this network"
        )
    return Match(file, found, {name: left[name] for name in own if name in left})


@torch.no_grad()
def copy_weights(net: nn.Module, file: Path, where: str) -> Match:
    """Copies what fits, and says what that was."""
    fits = match_weights(net, file, where)
    net.load_state_dict(fits.found, strict=False)
    return fits


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
