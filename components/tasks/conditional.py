"""Conditional GAN: pictures of what a class number, a caption or a sound asks for.

Mirza & Osindero 2014, and Reed et al. 2016 for the third kind of pair: the discriminator also learns to reject real
pictures with a condition that does not match (notes: text to image, 'the picture must be good and fit the text').
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..layers.levels import to_bytes, to_signed
from ..losses.adversarial import discriminator_loss, generator_loss
from ..metrics.generative import describe_modes
from ..optimizers import adam
from ..recipes.ranges import Count, Fraction, Positive
from ..training.task import Batch, Shard, Spec, State, Task, Update
from . import adversarial
from .judge import Judge, draw_sample_sizes, picture_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALARM = 0.9  # coverage below which it is reported
COLUMNS = 10  # of the sample grid
MOST_CLASSES = 40  # shown in it


class Conditional(Task):
    """A generator of column "image" from column `condition`, against a discriminator of pairs.

    generator(latent=, shape=, condition=, classes=), discriminator(shape=, condition=, classes=): factories, see
    `models/conditional.py`. mismatch: weight of real pictures with another example's condition among the negatives; 0
    leaves them out. Two conditions match if their examples have the same label. judge: folder of an exported classifier
    of the labels; `agreement` is the share of pictures in which it sees the label that was asked for. critic_steps,
    generator_rate: as for `tasks.adversarial.Adversarial`.

    A served model takes {"row": int64 [B], `condition`: [B, ...]}; the row number names a latent vector.
    """

    monitor: ClassVar[tuple[str, str]] = ("fid", "min")
    album: ClassVar[bool] = True

    def __init__(
        self,
        generator: Callable[..., nn.Module],
        discriminator: Callable[..., nn.Module],
        judge: str,
        condition: str = "label",
        optimizer: Callable[..., Optimizer] = adam,
        latent: Count = 64,
        critic_steps: Count = 1,
        generator_rate: Positive = 0.5,
        mismatch: Fraction = 0.5,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.judge = Judge(judge)
        self.condition = condition
        self.optimizer = optimizer
        self.latent = latent
        self.critic_steps = critic_steps
        self.generator_rate = generator_rate
        self.mismatch = mismatch
        self.inputs = ("row", condition)  # type: ignore[misc]

    def setup(self, spec: Spec) -> State:
        """Build both networks, with one optimiser each."""
        spec.check_columns("Conditional", "image", "label", self.condition)
        height, width, channels = spec.columns["image"]
        arguments: dict[str, Any] = {
            "shape": (channels, height, width),
            "condition": spec.columns[self.condition],
            "classes": len(spec.classes),
        }
        modules = {
            "discriminator": self.discriminator(**arguments),
            "generator": self.generator(latent=self.latent, **arguments),
        }
        return adversarial.rivals(modules, self.optimizer, self.generator_rate)

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Return the metrics of `adversarial.alternate`; `mismatched`: D's mean output for pairs that do not match."""
        metrics = adversarial.alternate(update, self.critic_steps, self.discriminator_loss, self.generator_loss)
        if self.mismatch:
            # Shards have different shares of such pairs, so the means are divided after they are taken over all shards.
            metrics["mismatched"] = metrics["mismatched"] / metrics.pop("differs").clamp(min=1e-6)
        return metrics

    def discriminator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss over real, generated and mismatched pairs, and D's mean output for real and generated ones.

        A mismatched pair is a real picture with the condition of the example before it in the shard. It is left out
        where both have the same label. `differs` is the share of pairs that remain, and `mismatched` the sum of D's
        output over these, divided by the number of all pairs.
        """
        net: Any = state.modules["discriminator"]
        pictures, condition, label = to_signed(shard.batch["image"]), shard.batch[self.condition], shard.batch["label"]
        with torch.no_grad():
            z = adversarial.draw_latents(len(label), self.latent, shard)
            generated = state.modules["generator"](z, condition)
        code, features = net.encoder(condition), net.body(pictures)
        real, fake = net.match(features, code).float(), net.match(net.body(generated), code).float()
        metrics = {"real": real.detach().sigmoid().mean(), "fake": fake.detach().sigmoid().mean()}
        if self.mismatch == 0:
            return discriminator_loss(real, fake), metrics
        differs = (label != label.roll(1, 0)).float()
        mismatched = net.match(features, code.roll(1, 0)).float()
        metrics |= {"mismatched": (mismatched.detach().sigmoid() * differs).mean(), "differs": differs.mean()}
        negatives = torch.lerp(F.softplus(fake), F.softplus(mismatched), self.mismatch * differs)
        return F.softplus(-real).mean() + negatives.mean(), metrics

    def generator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of -log D(G(z, c), c); there are no metrics."""
        condition = shard.batch[self.condition]
        z = adversarial.draw_latents(len(condition), self.latent, shard)
        generated = state.modules["generator"](z, condition)
        return generator_loss(state.modules["discriminator"](generated, condition).float()), {}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"image": uint8 [B, H, W, C]} and, with real pictures in the batch, what `Judge.compare` returns."""
        z = torch.from_numpy(adversarial.latents(batch["row"].cpu().numpy(), self.latent)).to(batch["row"].device)
        generated = to_bytes(state.modules["generator"](z, batch[self.condition]))
        if "image" not in batch:
            return {"image": generated}
        return {"image": generated, **self.judge.compare(generated, batch["image"])}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return agreement and what `picture_scores` returns."""
        agreement = float((predictions["probability"].argmax(1) == targets["label"]).mean())
        return {"agreement": agreement, **picture_scores(predictions)}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw a column of pictures for each of the first classes, and the FID by sample size."""
        from ..drawings.mosaic import draw_mosaic

        numbers = np.unique(targets["label"])[:MOST_CLASSES]
        rows = [np.flatnonzero(targets["label"] == number) for number in numbers]
        depth = min(*map(len, rows), 8 if len(rows) <= COLUMNS else 2)
        grid = np.stack([row[:depth] for row in rows], axis=1)  # [depth, classes]
        order = np.concatenate([grid[:, first : first + COLUMNS].ravel() for first in range(0, len(rows), COLUMNS)])
        return {"samples": draw_mosaic(predictions["image"][order])} | draw_sample_sizes(predictions)

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return whether modes collapsed or were dropped, and what judges the pictures."""
        verdict = describe_modes(scores["coverage"], scores["spread"], ALARM, scores["variety"])
        return {"mode_collapse": verdict, "features": self.judge.description}
