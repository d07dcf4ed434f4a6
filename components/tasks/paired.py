"""Image translation: a GAN of pairs, together with the distance to the true picture (pix2pix, Isola et al. 2017).

The mean distance alone gives blurred pictures wherever several answers are right (notes: 'supervised learning alone is
blurred; a GAN alone imagines too much; use both').
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..layers.levels import to_bytes, to_signed
from ..losses.adversarial import discriminator_loss, generator_loss
from ..metrics.generative import frechet_distance, patches, sharpness
from ..optimizers import adam
from ..recipes.ranges import Count, NonNegative, Positive
from ..training.task import Batch, Shard, Spec, State, Task, Update
from . import adversarial
from .judge import Judge

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = 8  # rows of the picture


class Paired(Task):
    """A generator of column "image" from the picture in column "source".

    generator(source=, shape=), discriminator(source=, shape=): factories, see `models/pix2pix.py`. pose: a column with
    numbers that both networks see as well; the factories then take pose=, too (`models/film.py`). rivalry, distance:
    weights of the GAN's loss and of the mean absolute difference from the true picture (in -1..1). Without
    the first there is no discriminator. judge: folder of an exported classifier of column "label", which judges each
    channel of the pictures as one frame. Without a judge the FID compares patches of 8x8 pixels.

    A served model takes {"source": uint8 [B, H, W, C]} and the column `pose`.
    """

    monitor: ClassVar[tuple[str, str]] = ("l1", "min")
    album: ClassVar[bool] = True

    def __init__(
        self,
        generator: Callable[..., nn.Module],
        discriminator: Callable[..., nn.Module] | None = None,
        optimizer: Callable[..., Optimizer] = adam,
        rivalry: NonNegative = 1.0,
        distance: NonNegative = 100.0,
        pose: str | None = None,
        judge: str | None = None,
        critic_steps: Count = 1,
        generator_rate: Positive = 1.0,
    ) -> None:
        if rivalry and discriminator is None:
            raise Refusal("task.discriminator: is missing; name one, or set rivalry: 0")
        self.generator = generator
        self.discriminator = discriminator
        self.optimizer = optimizer
        self.rivalry = rivalry
        self.distance = distance
        self.pose = pose
        self.judge = None if judge is None else Judge(judge)
        self.critic_steps = critic_steps
        self.generator_rate = generator_rate
        self.inputs = ("source",) if pose is None else ("source", pose)  # type: ignore[misc]
        self.targets = ("image", "source") if judge is None else ("image", "source", "label")  # type: ignore[misc]

    def setup(self, spec: Spec) -> State:
        """Build the networks, with one optimiser each."""
        spec.check_columns("Paired", *self.targets, *self.inputs)
        shapes: dict[str, Any] = {}
        for name, column in (("source", "source"), ("shape", "image")):
            height, width, channels = spec.columns[column]
            shapes[name] = (channels, height, width)
        if self.pose is not None:
            shapes["pose"] = spec.columns[self.pose]
        modules = {"generator": self.generator(**shapes)}
        if self.rivalry and self.discriminator is not None:
            modules = {"discriminator": self.discriminator(**shapes), **modules}
        return adversarial.rivals(modules, self.optimizer, self.generator_rate)

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Return what `adversarial.alternate` returns; without a discriminator, {loss, l1} of the generator."""
        if not self.rivalry:
            return update("generator", self.generator_loss)
        return adversarial.alternate(update, self.critic_steps, self.discriminator_loss, self.generator_loss)

    def discriminator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss over real and generated pairs, and D's mean output on both."""
        conditions = self._conditions(shard.batch)
        with torch.no_grad():
            generated = state.modules["generator"](*conditions)
        net = state.modules["discriminator"]
        real, fake = (net(part, *conditions).float() for part in (to_signed(shard.batch["image"]), generated))
        metrics = {"real": real.detach().sigmoid().mean(), "fake": fake.detach().sigmoid().mean()}
        return discriminator_loss(real, fake), metrics

    def generator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of -log D(G(x), x) and the mean absolute difference, and the latter as `l1`."""
        conditions = self._conditions(shard.batch)
        generated = state.modules["generator"](*conditions)
        l1 = F.l1_loss(generated.float(), to_signed(shard.batch["image"]))
        loss = self.distance * l1
        if self.rivalry:
            fake = state.modules["discriminator"](generated, *conditions).float()
            loss = loss + self.rivalry * generator_loss(fake)
        return loss, {"l1": l1.detach()}

    def _conditions(self, batch: Batch) -> list[Tensor]:
        """Return what both networks see: the source [B, C, H, W] in -1..1 and, where there is one, the pose."""
        source = to_signed(batch["source"])
        return [source] if self.pose is None else [source, batch[self.pose].float()]

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"image": uint8 [B, H, W, C]}.

        With a judge and true pictures, add "feature", "real_feature" [B, C * F] and "frame_label" [B, C]: the judge's
        class of each frame.
        """
        generated = to_bytes(state.modules["generator"](*self._conditions(batch)))
        if self.judge is None or "image" not in batch:
            return {"image": generated}
        compared = self.judge.compare(_frames(generated), _frames(batch["image"]))
        count, channels = len(generated), generated.shape[3]
        return {
            "image": generated,
            "feature": compared["feature"].view(count, -1),
            "real_feature": compared["real_feature"].view(count, -1),
            "frame_label": compared["probability"].argmax(1).view(count, channels),
            "real_frame_label": compared["real_probability"].argmax(1).view(count, channels),
        }

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return l1 (0 to 1), sharpness, real_sharpness and fid; with a judge agreement, worst_frame, real_agreement.

        agreement: the share of frames in which the judge sees the label; worst_frame: that of the worst position;
        real_agreement: the share of real frames, which the judge itself limits.
        """
        generated, real = predictions["image"], targets["image"]
        scores = {
            "l1": float(np.abs(generated.astype(np.float32) - real).mean() / 255),
            "sharpness": sharpness(generated),
            "real_sharpness": sharpness(real),
        }
        if "frame_label" not in predictions:
            return scores | {"fid": frechet_distance(patches(real), patches(generated))}
        right = predictions["frame_label"] == targets["label"][:, None]
        channels = right.shape[1]
        features = (predictions[name].reshape(len(right) * channels, -1) for name in ("real_feature", "feature"))
        agreement = {
            "agreement": float(right.mean()),
            "worst_frame": float(right.mean(0).min()),
            "real_agreement": float((predictions["real_frame_label"] == targets["label"][:, None]).mean()),
        }
        return scores | {"fid": frechet_distance(*features)} | agreement

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw source, generated and true picture of the first examples; of films, all frames in a row each."""
        from ..drawings.mosaic import draw_mosaic

        pictures = [targets["source"][:EXAMPLES], predictions["image"][:EXAMPLES], targets["image"][:EXAMPLES]]
        if self.pose is None:
            colours = [np.broadcast_to(part, (*part.shape[:3], 3)) for part in pictures]
            return {"samples": draw_mosaic(np.stack(colours, 1).reshape(-1, *colours[0].shape[1:]), columns=6)}
        source, *films = pictures
        strips = [np.moveaxis(film, 3, 1)[..., None] for film in films]
        rows = np.stack([np.concatenate([source[:, None], strip], 1) for strip in strips], 1)
        return {"samples": draw_mosaic(rows.reshape(-1, *source.shape[1:]), columns=rows.shape[2])}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the features of the FID come from."""
        return {"features": "patches of 8x8 pixels" if self.judge is None else self.judge.description}


def _frames(film: Tensor) -> Tensor:
    """Return the channels of pictures [B, H, W, C] as pictures of their own [B * C, H, W, 1]."""
    return film.permute(0, 3, 1, 2).reshape(-1, *film.shape[1:3])[..., None].contiguous()
