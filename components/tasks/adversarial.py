"""Generative adversarial networks: the discriminator learns `critic_steps` times, then the generator once, slower.

Goodfellow et al. 2014 and the notes' chapter on GANs; the generator maximises log D(G(z)), whose gradient does not
vanish while the discriminator still wins. All `critic_steps` of a step see its batch of real examples, each with other
generated ones, where Goodfellow et al.'s algorithm 1 draws both anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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

SHOWN = 80  # examples of the sample grid
INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # of SplitMix64


class Adversarial(Task):
    """Learns to draw examples of `column` like the real ones.

    generator(latent=, shape=), discriminator(shape=): factories; pictures live in -1..1. generator_rate: the
    generator's learning rate over the discriminator's. judge: an exported classifier whose features give the FID and
    whose verdicts give Inception score and coverage; without one an example itself is its feature, and its class that
    of the nearest class mean. alarm: coverage below it is called mode collapse in the run's tags.

    Served, the model takes {"row": int64 [B]}: a number names an example, always the same one.
    """

    monitor: ClassVar[tuple[str, str]] = ("fid", "min")
    inputs: ClassVar[tuple[str, ...]] = ("row",)
    album: ClassVar[bool] = True

    def __init__(
        self,
        generator: Callable[..., nn.Module],
        discriminator: Callable[..., nn.Module],
        optimizer: Callable = adam,
        column: Literal["image", "point"] = "image",
        latent: Count = 64,
        critic_steps: Count = 1,
        generator_rate: Positive = 0.5,
        judge: str | None = None,
        alarm: Fraction = 0.9,
    ) -> None:
        self.generator, self.discriminator, self.optimizer = generator, discriminator, optimizer
        self.column, self.latent, self.critic_steps, self.generator_rate = column, latent, critic_steps, generator_rate
        self.judge, self.alarm, self.classes = judge, alarm, 1
        self.targets = ("label", column)  # type: ignore[misc]
        self.judging: tuple[Any, State] | None = None

    def setup(self, spec: Spec) -> State:
        shape = tuple(int(side) for side in spec.columns[self.column] if side is not None)
        self.classes = len(spec.classes)
        shape = (shape[-1], *shape[:-1]) if self.column == "image" else shape
        modules = {
            "discriminator": self.discriminator(shape=shape),
            "generator": self.generator(latent=self.latent, shape=shape),
        }
        optimizers = {name: self.optimizer(module.parameters()) for name, module in modules.items()}
        for group in optimizers["generator"].param_groups:
            group["lr"] *= self.generator_rate
        return State(modules, optimizers=optimizers)

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """{discriminator_loss, real, fake, generator_loss}: `real` and `fake` are D's mean verdicts, 0.5 at the end."""
        for _ in range(self.critic_steps):
            metrics = update("discriminator", self.discriminator_loss)
        if SHARD_GRADIENT in metrics:
            raise Refusal("fit.noise_scale: is that of one loss, and a GAN has two; leave it out")
        judged = {("discriminator_loss" if name == "loss" else name): value for name, value in metrics.items()}
        return judged | {f"generator_{name}": value for name, value in update("generator", self.generator_loss).items()}

    def discriminator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """-log D(x) - log(1 - D(G(z)))."""
        examples = self.examples(shard.batch)
        with torch.no_grad():
            made = state.modules["generator"](self.noise(len(examples), shard))
        real, fake = (state.modules["discriminator"](part).float() for part in (examples, made))
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        return loss, {"real": real.detach().sigmoid().mean(), "fake": fake.detach().sigmoid().mean()}

    def generator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """-log D(G(z))."""
        made = state.modules["generator"](self.noise(len(shard.batch["row"]), shard))
        return F.softplus(-state.modules["discriminator"](made).float()).mean(), {}

    def noise(self, count: int, shard: Shard) -> Tensor:
        return torch.randn(count, self.latent, generator=shard.generator, device=shard.generator.device)

    def examples(self, batch: Batch) -> Tensor:
        """The real ones as the networks take them: uint8 [B, H, W, C] -> [B, C, H, W] in -1..1; points as they are."""
        values = batch[self.column]
        return values.permute(0, 3, 1, 2).float() / 127.5 - 1 if self.column == "image" else values.float()

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"image" or "point": made [B, ...]}; with real ones in the batch also what the judge says of both kinds."""
        z = torch.from_numpy(latents(batch["row"].cpu().numpy(), self.latent)).to(batch["row"].device)
        made = state.modules["generator"](z).float()
        if self.column == "image":
            made = ((made + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
        said: dict[str, Tensor] = {self.column: made}
        if self.judge is None or self.column not in batch:
            return said
        feature, probability = self.judged({self.column: made})
        return {**said, "feature": feature, "probability": probability, "real_feature": self.judged(batch)[0]}

    def judged(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(features [B, F]: what the judge's output layer sees, its probabilities [B, K])."""
        if self.judging is None:
            self.judging = exported.read_model(str(self.judge), batch[self.column].device)
        task, state = self.judging
        seen: list[Tensor] = []
        head = state.modules["net"].get_submodule("head")
        with head.register_forward_pre_hook(lambda module, given: seen.append(given[0])):
            said = task.predict(state, batch)
        return seen[0].float(), said["probability"]

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """{fid, coverage}, with a judge inception_score, without one `close`: the share within 3 deviations."""
        made, real, labels = predictions[self.column], targets[self.column], targets["label"]
        if "feature" in predictions:
            probability = predictions["probability"]
            return {
                "fid": frechet_distance(predictions["real_feature"], predictions["feature"]),
                "inception_score": inception_score(probability),
                "coverage": class_coverage(probability.argmax(1), probability.shape[1]),
            }
        found, distance = nearest_class(made, real, labels, self.classes)
        near = float((distance < 3 * np.sqrt(made[0].size)).mean())
        return {"fid": frechet_distance(real, made), "coverage": class_coverage(found, self.classes), "close": near}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """The first examples by number, so that one can be followed from epoch to epoch."""
        from ..drawings.mosaic import draw_mosaic
        from ..drawings.points import draw_points

        made, real = predictions[self.column], targets[self.column]
        if self.column == "image":
            return {"samples": draw_mosaic(made[:SHOWN])}
        return {"samples": draw_points({"real": real, "generated": made}, "Generated points")}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        produced = f"{scores['coverage']:.0%} of the classes are produced"
        verdict = f"ALARM: {produced}" if scores["coverage"] < self.alarm else f"none: {produced}"
        return {"mode_collapse": verdict, "features": self.judge or "the examples themselves"}


def latents(rows: np.ndarray, size: int) -> np.ndarray:
    """Standard normal numbers float32 [B, size], a pure function of the rows' numbers int64 [B] (Box-Muller).

    `mixed` leaves 0 as it is: SplitMix64 adds its increment first.
    """
    words = rows.astype(np.uint64)[:, None] * np.uint64(2 * size) + np.arange(2 * size, dtype=np.uint64)
    uniform = ((splitmix64(words + INCREMENT) >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    radius, angle = np.sqrt(-2 * np.log(uniform[:, :size])), 2 * np.pi * uniform[:, size:]
    return (radius * np.cos(angle)).astype(np.float32)
