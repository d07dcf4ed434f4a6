"""Generative adversarial networks: `critic_steps` discriminator steps, then one generator step at a lower rate.

Goodfellow et al. 2014 and the notes' chapter on GANs. The generator maximises log D(G(z)), whose gradient does not
vanish while the discriminator is still ahead. As in their algorithm 1, each of the k discriminator steps sees real
examples of its own: `fit.batch` is k minibatches, one for each of them, and the generator's is as large as one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import Refusal
from ..layers.levels import to_bytes, to_signed
from ..losses.adversarial import discriminator_loss, generator_loss
from ..metrics.generative import (
    class_coverage,
    describe_modes,
    frechet_distance,
    nearest_class,
    spread,
)
from ..optimizers import adam
from ..recipes.ranges import Count, Fraction, Positive
from ..storage.order import splitmix64
from ..training.noise_scale import SHARD_GRADIENT
from ..training.task import Batch, Loss, Shard, Spec, State, Task, Update
from .judge import Judge, draw_sample_sizes, picture_scores, score_sample_sizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID_SIZE = 80  # examples in the sample grid
INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # of SplitMix64


class Adversarial(Task):
    """A generator that learns to produce examples of `column`, against a discriminator.

    generator(latent=, shape=), discriminator(shape=): factories; pictures have values in -1..1. critic_steps: updates
    of the discriminator in a step, each on its own part of `fit.batch`. generator_rate: the generator's learning rate
    as a multiple of the discriminator's. judge: folder of an exported classifier, or a .safetensors file with
    Inception-v3's weights; its features give the FID, and its predictions the Inception score and the coverage. Without
    a judge an example is its own feature, and its class is that of the nearest class mean. alarm: a coverage below it
    is reported as mode collapse in the run's tags. sizes: numbers of examples from which the judge's FID is estimated
    as well, to see how far small samples mislead.

    A served model takes {"row": int64 [B]}: each row number names one example, always the same.
    """

    monitor: ClassVar[tuple[str, str]] = ("fid", "min")
    inputs: ClassVar[tuple[str, ...]] = ("row",)
    album: ClassVar[bool] = True

    def __init__(
        self,
        generator: Callable[..., nn.Module],
        discriminator: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = adam,
        column: Literal["image", "point"] = "image",
        latent: Count = 64,
        critic_steps: Count = 1,
        generator_rate: Positive = 0.5,
        judge: str | None = None,
        alarm: Fraction = 0.9,
        sizes: list[Count] = [],  # noqa: B006  (never written to)
    ) -> None:
        if sizes and judge is None:
            raise Refusal("task.sizes: needs the features of a judge; name one, or leave sizes out")
        self.generator = generator
        self.discriminator = discriminator
        self.optimizer = optimizer
        self.column = column
        self.latent = latent
        self.critic_steps = critic_steps
        self.generator_rate = generator_rate
        self.judge = None if judge is None else Judge(judge)
        self.alarm = alarm
        self.sizes = sizes
        self.classes = 1
        self.targets = ("label", column)  # type: ignore[misc]

    def setup(self, spec: Spec) -> State:
        """Build both networks, with one optimiser each."""
        spec.check_columns("Adversarial", self.column, "label")
        shape = tuple(int(side) for side in spec.columns[self.column] if side is not None)
        self.classes = len(spec.classes)
        if self.column == "image":
            shape = (shape[-1], *shape[:-1])
        modules = {
            "discriminator": self.discriminator(shape=shape),
            "generator": self.generator(latent=self.latent, shape=shape),
        }
        return rivals(modules, self.optimizer, self.generator_rate)

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Return what `alternate` returns."""
        return alternate(update, self.critic_steps, self.discriminator_loss, self.generator_loss)

    def discriminator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of -log D(x) - log(1 - D(G(z))), and D's mean output on both kinds of examples."""
        examples = self._network_inputs(shard.batch)
        with torch.no_grad():
            generated = state.modules["generator"](draw_latents(len(examples), self.latent, shard))
        real, fake = (state.modules["discriminator"](part).float() for part in (examples, generated))
        metrics = {"real": real.detach().sigmoid().mean(), "fake": fake.detach().sigmoid().mean()}
        return discriminator_loss(real, fake), metrics

    def generator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of -log D(G(z)); there are no metrics."""
        generated = state.modules["generator"](draw_latents(len(shard.batch["row"]), self.latent, shard))
        return generator_loss(state.modules["discriminator"](generated).float()), {}

    def _network_inputs(self, batch: Batch) -> Tensor:
        """Return the real examples: pictures uint8 [B, H, W, C] -> [B, C, H, W] in -1..1, points unchanged."""
        return to_signed(batch["image"]) if self.column == "image" else batch[self.column].float()

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"image" or "point": generated [B, ...]} and, with a judge and real examples, what it returns."""
        z = torch.from_numpy(latents(batch["row"].cpu().numpy(), self.latent)).to(batch["row"].device)
        generated = state.modules["generator"](z).float()
        if self.column == "image":
            generated = to_bytes(generated)
        predictions: dict[str, Tensor] = {self.column: generated}
        if self.judge is not None and self.column in batch:
            predictions |= self.judge.compare(generated, batch[self.column])
        return predictions

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return fid, coverage and, with a judge, inception_score and those of `sizes`; without one, close.

        close: fraction of the examples within 3 standard deviations of the nearest class mean.
        """
        if "feature" in predictions:
            return picture_scores(predictions) | score_sample_sizes(predictions, self.sizes)
        generated, real = predictions[self.column], targets[self.column]
        labels, distance = nearest_class(generated, real, targets["label"], self.classes)
        close = float((distance < 3 * np.sqrt(generated[0].size)).mean())
        return {
            "fid": frechet_distance(real, generated),
            "coverage": class_coverage(labels, self.classes),
            "spread": spread(real, generated),
            "close": close,
        }

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the first examples by row number, so that each can be followed from epoch to epoch."""
        from ..drawings.mosaic import draw_mosaic
        from ..drawings.points import draw_points

        generated, real = predictions[self.column], targets[self.column]
        if self.column == "image":
            samples: dict[str, Figure | str] = {"samples": draw_mosaic(generated[:GRID_SIZE])}
            return samples if self.judge is None else samples | draw_sample_sizes(predictions)
        return {"samples": draw_points({"real": real, "generated": generated}, "Generated points")}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return whether modes collapsed or were dropped, and where the features come from."""
        features = "the examples themselves" if self.judge is None else self.judge.description
        verdict = describe_modes(scores["coverage"], scores["spread"], self.alarm, scores.get("variety"))
        return {"mode_collapse": verdict, "features": features}


def rivals(modules: dict[str, nn.Module], optimizer: Callable[..., Optimizer], generator_rate: float) -> State:
    """Return the state of "generator" and "discriminator", with one optimiser each.

    generator_rate: the generator's learning rate as a multiple of the discriminator's.
    """
    optimizers = {name: optimizer(module.parameters()) for name, module in modules.items()}
    for group in optimizers["generator"].param_groups:
        group["lr"] *= generator_rate
    return State(modules, optimizers=optimizers)


def alternate(update: Update, critic_steps: int, for_discriminator: Loss, for_generator: Loss) -> dict[str, Tensor]:
    """Do `critic_steps` updates of the discriminator, each on its own part of the batch, then one of the generator.

    Return {discriminator_loss, real, fake, generator_loss} and further metrics of the losses; `real`, `fake`: D's mean
    output, ideally 0.5. The discriminator's are those of its last update.
    """
    if critic_steps > update.examples:
        raise Refusal(f"task.critic_steps: {critic_steps} is more than fit.batch: {update.examples}; raise fit.batch")
    for part in range(critic_steps):
        metrics = update("discriminator", on_part(for_discriminator, part, critic_steps))
    if SHARD_GRADIENT in metrics:
        raise Refusal("fit.noise_scale: applies to a single loss, and a GAN has two; leave it out")
    combined = {("discriminator_loss" if name == "loss" else name): value for name, value in metrics.items()}
    for name, value in update("generator", on_part(for_generator, 0, critic_steps)).items():
        combined[f"generator_{name}"] = value
    return combined


def on_part(loss: Loss, part: int, parts: int) -> Loss:
    """Return `loss` over one of `parts` parts of the step's batch: every example at part, part + parts, ... of it.

    The positions in the batch decide, so that shards and microbatches do not.
    """
    if parts == 1:
        return loss

    def on_rows(state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the shard's examples in this part; without any, that of its first, which weighs 0."""
        start = (part - shard.first) % parts
        count = len(range(start, len(shard.batch["row"]), parts))
        rows = slice(start, None, parts) if count else slice(0, 1)
        own = Shard({name: values[rows] for name, values in shard.batch.items()}, shard.generator, shard.index)
        result = loss(state, own)
        shard.weight = count if own.weight is None or not count else own.weight
        return result

    return on_rows


def draw_latents(count: int, size: int, shard: Shard) -> Tensor:
    """Return standard normal numbers [count, size] from the shard's random stream."""
    return torch.randn(count, size, generator=shard.generator, device=shard.generator.device)


def latents(rows: np.ndarray, size: int) -> np.ndarray:
    """Return standard normal numbers float32 [B, size], a pure function of the row numbers int64 [B] (Box-Muller).

    `splitmix64` maps 0 to 0, because SplitMix64 adds its increment first; so does this function.
    """
    words = rows.astype(np.uint64)[:, None] * np.uint64(2 * size) + np.arange(2 * size, dtype=np.uint64)
    uniform = ((splitmix64(words + INCREMENT) >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    radius, angle = np.sqrt(-2 * np.log(uniform[:, :size])), 2 * np.pi * uniform[:, size:]
    return (radius * np.cos(angle)).astype(np.float32)
