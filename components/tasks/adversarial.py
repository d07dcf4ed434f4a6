"""Generative adversarial networks: `critic_steps` discriminator steps, then one generator step at a lower rate.

Goodfellow et al. 2014 and the notes' chapter on GANs. The generator maximises log D(G(z)), whose gradient does not
vanish while the discriminator is still ahead. All discriminator steps of one step share its batch of real examples and
draw new generated ones; algorithm 1 of Goodfellow et al. draws new real examples as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..metrics.generative import class_coverage, frechet_distance, inception_score, nearest_class
from ..optimizers import adam
from ..recipes.ranges import Count, Fraction, Positive
from ..storage.order import splitmix64
from ..training import exported
from ..training.noise_scale import SHARD_GRADIENT
from ..training.task import Batch, Shard, Spec, State, Task, Update

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID_SIZE = 80  # examples in the sample grid
INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # of SplitMix64


class Adversarial(Task):
    """A generator that learns to produce examples of `column`, against a discriminator.

    generator(latent=, shape=), discriminator(shape=): factories; pictures have values in -1..1. generator_rate: the
    generator's learning rate as a multiple of the discriminator's. judge: folder of an exported classifier; its
    features give the FID, and its predictions the Inception score and the coverage. Without a judge an example is its
    own feature, and its class is that of the nearest class mean. alarm: a coverage below it is reported as mode
    collapse in the run's tags.

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
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.optimizer = optimizer
        self.column = column
        self.latent = latent
        self.critic_steps = critic_steps
        self.generator_rate = generator_rate
        self.judge = judge
        self.alarm = alarm
        self.classes = 1
        self.targets = ("label", column)  # type: ignore[misc]
        self._loaded_judge: tuple[Task, State] | None = None

    def setup(self, spec: Spec) -> State:
        """Build both networks, with one optimiser each."""
        shape = tuple(int(side) for side in spec.columns[self.column] if side is not None)
        self.classes = len(spec.classes)
        if self.column == "image":
            shape = (shape[-1], *shape[:-1])
        modules = {
            "discriminator": self.discriminator(shape=shape),
            "generator": self.generator(latent=self.latent, shape=shape),
        }
        optimizers = {name: self.optimizer(module.parameters()) for name, module in modules.items()}
        for group in optimizers["generator"].param_groups:
            group["lr"] *= self.generator_rate
        return State(modules, optimizers=optimizers)

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Return {discriminator_loss, real, fake, generator_loss}; `real`, `fake`: D's mean output, ideally 0.5."""
        for _ in range(self.critic_steps):
            metrics = update("discriminator", self.discriminator_loss)
        if SHARD_GRADIENT in metrics:
            raise Refusal("fit.noise_scale: applies to a single loss, and a GAN has two; leave it out")
        combined = {("discriminator_loss" if name == "loss" else name): value for name, value in metrics.items()}
        for name, value in update("generator", self.generator_loss).items():
            combined[f"generator_{name}"] = value
        return combined

    def discriminator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of -log D(x) - log(1 - D(G(z))), and D's mean output on both kinds of examples."""
        examples = self._network_inputs(shard.batch)
        with torch.no_grad():
            generated = state.modules["generator"](self._draw_latents(len(examples), shard))
        real, fake = (state.modules["discriminator"](part).float() for part in (examples, generated))
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        return loss, {"real": real.detach().sigmoid().mean(), "fake": fake.detach().sigmoid().mean()}

    def generator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of -log D(G(z)); there are no metrics."""
        generated = state.modules["generator"](self._draw_latents(len(shard.batch["row"]), shard))
        return F.softplus(-state.modules["discriminator"](generated).float()).mean(), {}

    def _draw_latents(self, count: int, shard: Shard) -> Tensor:
        return torch.randn(count, self.latent, generator=shard.generator, device=shard.generator.device)

    def _network_inputs(self, batch: Batch) -> Tensor:
        """Return the real examples: pictures uint8 [B, H, W, C] -> [B, C, H, W] in -1..1, points unchanged."""
        values = batch[self.column]
        return values.permute(0, 3, 1, 2).float() / 127.5 - 1 if self.column == "image" else values.float()

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"image" or "point": generated [B, ...]}.

        With a judge and real examples in the batch, add its features of both kinds ("feature", "real_feature": [B, F])
        and its class probabilities of the generated ones ("probability": [B, K]).
        """
        z = torch.from_numpy(latents(batch["row"].cpu().numpy(), self.latent)).to(batch["row"].device)
        generated = state.modules["generator"](z).float()
        if self.column == "image":
            generated = ((generated + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
        predictions: dict[str, Tensor] = {self.column: generated}
        if self.judge is None or self.column not in batch:
            return predictions
        feature, probability = self._apply_judge({self.column: generated})
        return {
            **predictions,
            "feature": feature,
            "probability": probability,
            "real_feature": self._apply_judge(batch)[0],
        }

    def _apply_judge(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the inputs of the judge's output layer [B, F] and its probabilities [B, K]."""
        if self._loaded_judge is None:
            self._loaded_judge = exported.read_model(str(self.judge), batch[self.column].device)
        task, state = self._loaded_judge
        head_inputs: list[Tensor] = []
        head = state.modules["net"].get_submodule("head")
        with head.register_forward_pre_hook(lambda module, arguments: head_inputs.append(arguments[0])):
            predictions = task.predict(state, batch)
        return head_inputs[0].float(), predictions["probability"]

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return fid, coverage and, with a judge, inception_score; without one, close.

        close: fraction of the examples within 3 standard deviations of the nearest class mean.
        """
        if "feature" in predictions:
            probability = predictions["probability"]
            return {
                "fid": frechet_distance(predictions["real_feature"], predictions["feature"]),
                "inception_score": inception_score(probability),
                "coverage": class_coverage(probability.argmax(1), probability.shape[1]),
            }
        generated, real = predictions[self.column], targets[self.column]
        labels, distance = nearest_class(generated, real, targets["label"], self.classes)
        close = float((distance < 3 * np.sqrt(generated[0].size)).mean())
        return {
            "fid": frechet_distance(real, generated),
            "coverage": class_coverage(labels, self.classes),
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
            return {"samples": draw_mosaic(generated[:GRID_SIZE])}
        return {"samples": draw_points({"real": real, "generated": generated}, "Generated points")}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return whether the modes collapsed, and where the features come from."""
        produced = f"{scores['coverage']:.0%} of the classes are produced"
        verdict = f"ALARM: {produced}" if scores["coverage"] < self.alarm else f"none: {produced}"
        return {"mode_collapse": verdict, "features": self.judge or "the examples themselves"}


def latents(rows: np.ndarray, size: int) -> np.ndarray:
    """Return standard normal numbers float32 [B, size], a pure function of the row numbers int64 [B] (Box-Muller).

    `splitmix64` maps 0 to 0, because SplitMix64 adds its increment first; so does this function.
    """
    words = rows.astype(np.uint64)[:, None] * np.uint64(2 * size) + np.arange(2 * size, dtype=np.uint64)
    uniform = ((splitmix64(words + INCREMENT) >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    radius, angle = np.sqrt(-2 * np.log(uniform[:, :size])), 2 * np.pi * uniform[:, size:]
    return (radius * np.cos(angle)).astype(np.float32)
