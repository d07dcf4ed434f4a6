"""Inception-v3 from a local file of weights, for scores that can be compared with published ones (Szegedy et al. 2016).

Weights of torchvision are meant; published FIDs mostly use a port of the original TensorFlow weights, whose values
differ a little. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from .pretrained import load_tensors

SIDE = 299  # pixels
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels
CHUNK = 16  # pictures at once
REMOVED = "AuxLogits."  # the second output layer, for training only


class Inception(nn.Module):
    """Map pictures uint8 [B, H, W, C] to features [B, 2048] and class probabilities [B, 1000].

    file: a .safetensors file with the weights of torchvision's `inception_v3`.
    """

    def __init__(self, file: str | Path, where: str = "task.judge") -> None:
        from torchvision.models import inception_v3

        super().__init__()
        self.net = inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=False)
        tensors = {name: t for name, t in load_tensors(Path(file), where).items() if not name.startswith(REMOVED)}
        own = self.net.state_dict()
        wrong = sorted(own.keys() ^ tensors.keys()) or [n for n in own if own[n].shape != tensors[n].shape]
        if wrong:
            raise Refusal(
                f"{where}: {file} does not hold torchvision's inception_v3 ({wrong[0]} differs); use that one"
            )
        self.net.load_state_dict(tensors)
        self.net.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, 2048] and probabilities [B, 1000] of pictures uint8 [B, H, W, C], C being 1 or 3."""
        parts = [self._run_chunk(chunk) for chunk in pictures.split(CHUNK)]
        features, probabilities = zip(*parts, strict=True)
        return torch.cat(features), torch.cat(probabilities)

    def _run_chunk(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        x = pictures.permute(0, 3, 1, 2).float() / 255
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
        mean, deviation = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        inputs: list[Tensor] = []
        with self.net.fc.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0])):
            logits = self.net((x - mean) / deviation)
        return inputs[0], logits.softmax(1)
