"""Copy weights from a local file into the body of a model, as far as names and shapes match.

The .safetensors file uses the names of this project (also with the prefix of an exported model, `net.stem.0.weight`),
or those of torchvision if the model has `from_torchvision`. A layer is copied completely or not at all, the output
layer never. Nothing is unpickled: a .pth file is refused with the command that converts it.
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
SHOWN = 4  # names of tensors in a message
CONVERSION = (
    "python -c \"import torch, safetensors.torch as s; s.save_file(torch.load('{0}', weights_only=True), '{1}')\""
)


@dataclass(frozen=True)
class Match:
    """The tensors of a file that fit a model, by the names of the model, and the others of its body with a reason."""

    file: Path
    tensors: dict[str, Tensor]
    unmatched: dict[str, str]

    def __str__(self) -> str:
        """Describe the match: `60 of 62 tensors of the body from resnet18.safetensors; as they were: stem.0...`."""
        total = len(self.tensors) + len(self.unmatched)
        text = f"{len(self.tensors)} of {total} tensors of the body from {self.file.name}"
        if not self.unmatched:
            return text
        shown = ", ".join(f"{name} ({reason})" for name, reason in list(self.unmatched.items())[:SHOWN])
        more = f" and {len(self.unmatched) - SHOWN} more" if len(self.unmatched) > SHOWN else ""
        return f"{text}; as they were: {shown}{more}"


def load_tensors(file: Path, where: str) -> dict[str, Tensor]:
    """Read all tensors of a .safetensors file; a Refusal begins with `where`, the key of the recipe."""
    if file.suffix != ".safetensors":
        command = CONVERSION.format(file, file.with_suffix(".safetensors"))
        raise Refusal(
            f"{where}: {file} is not a .safetensors file, and nothing is unpickled here; convert it: {command}"
        )
    if not file.is_file():
        raise Refusal(f"{where}: {file} does not exist; put the file there, or set another one")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise Refusal(f"{where}: {file} is not a valid .safetensors file ({error}); get the original again") from None


def match_weights(net: nn.Module, file: Path, where: str) -> Match:
    """Return what the file holds for the body of `net`; raise Refusal if nothing fits."""
    saved = {name.removeprefix("net."): tensor for name, tensor in load_tensors(file, where).items()}
    body = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(HEAD)}
    translate: Callable[..., dict[str, Tensor]] | None = getattr(net, "from_torchvision", None)
    if translate and not body.keys() & saved.keys():
        saved = translate(saved)
    unmatched = dict.fromkeys(body.keys() - saved.keys(), "not in the file")
    for name in body.keys() & saved.keys():
        if saved[name].shape != body[name].shape:
            unmatched[name] = f"{list(saved[name].shape)} there, {list(body[name].shape)} here"
    different_layers = {_layer(name) for name in unmatched if name in saved}
    for name in body.keys() - unmatched.keys():
        if _layer(name) in different_layers:
            unmatched[name] = "its layer differs"
    tensors = {name: saved[name] for name in body if name not in unmatched}
    if not tensors:
        raise Refusal(
            f"{where}: nothing in {file} fits the model, whose tensors are {', '.join(list(body)[:SHOWN])}, ...;"
            f" the file holds {', '.join(list(saved)[:SHOWN]) or 'nothing'}, ...; set weights of this network"
        )
    return Match(file, tensors, {name: unmatched[name] for name in body if name in unmatched})


@torch.no_grad()
def copy_weights(net: nn.Module, file: Path, where: str) -> Match:
    """Copy the tensors of the file that fit into `net`, and return the match."""
    match = match_weights(net, file, where)
    net.load_state_dict(match.tensors, strict=False)
    return match


def start_body(net: nn.Module, start: str | None, where: str) -> None:
    """Copy all but the output layer from `start`, an exported model's folder or a .safetensors file, into `net`.

    start: None leaves `net` as it is. where: the recipe key to name in errors. A folder must hold the same network;
    from a file, what fits is copied.
    """
    if start is None:
        return
    if _is_weights_file(start):
        copy_weights(net, Path(start), where)
    else:
        _copy_body(net, Path(start), where)


def start_tags(net: nn.Module, start: str | None, where: str) -> dict[str, str]:
    """Return the tag "start", a sentence about what `start_body` copied; {} if it copied nothing."""
    if start is None:
        return {}
    if _is_weights_file(start):
        return {"start": str(match_weights(net, Path(start), where))}
    return {"start": f"all but the output layer from {start}"}


def _is_weights_file(start: str) -> bool:
    """Return whether `start` names a file: it has a suffix and is not a folder. A folder may be missing."""
    return bool(Path(start).suffix) and not Path(start).is_dir()


def _copy_body(net: nn.Module, folder: Path, where: str) -> None:
    """Copy all but the output layer from module "net" in `folder`/weights.safetensors into `net`."""
    file = folder / "weights.safetensors"
    if not file.is_file():
        raise Refusal(f"{where}: no {file}; run the stage that writes it (dvc repro) or drop 'start'")
    saved = load_net(file, where)
    body = {name: value for name, value in net.state_dict().items() if not name.startswith(HEAD)}
    parts = {_part(name) for name in body}  # a backbone is only some parts of the network that was exported
    saved_body = {name: value for name, value in saved.items() if _part(name) in parts}
    refuse_difference(saved_body, body, file, where)
    net.load_state_dict(saved_body, strict=False)


def load_net(file: Path, where: str) -> dict[str, Tensor]:
    """Return the tensors of module "net" in the weights of an exported model."""
    saved = load_tensors(file, where)
    return {name.removeprefix("net."): tensor for name, tensor in saved.items() if name.startswith("net.")}


def refuse_difference(saved: dict[str, Tensor], expected: dict[str, Tensor], file: Path, where: str) -> None:
    """Raise Refusal if the tensors from `file` have other names or shapes than those that are expected."""
    different = sorted(expected.keys() ^ saved.keys())
    if not different:
        different = [name for name in expected if expected[name].shape != saved[name].shape]
    if different:
        raise Refusal(
            f"{where}: {file} holds another network ({different[0]} differs); use the same model section for both"
        )


def _layer(name: str) -> str:
    """Return the name of the layer that the tensor `name` belongs to."""
    return name.rpartition(".")[0]


def _part(name: str) -> str:
    """Return the name of the network's child that the tensor `name` belongs to."""
    return name.partition(".")[0]
