"""Progressive growing: a GAN that begins with small pictures and doubles their sides (Karras et al. 2018).

At the end it shows what the latent space holds: films of pictures between two examples (notes: 'faces that change
continuously'), and the directions in which ink, width, height and slant grow.
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
from ..metrics.generative import describe_modes
from ..metrics.shape import fit_direction, measure_shapes
from ..optimizers import adam
from ..recipes.ranges import Count, Positive
from ..training.task import Batch, Shard, Spec, State, Task, Update
from . import adversarial
from .judge import Judge, draw_sample_sizes, picture_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALARM = 0.9  # coverage below which it is reported
FILM_STEPS = 12  # pictures per film
FILMS = 6
REACH = 3.0  # standard deviations that a picture is moved along a direction, either way
MOVED = 64  # examples by which a direction's effect is measured


class Progressive(Task):
    """A generator of column "image" that grows, against a discriminator that grows with it.

    generator(latent=, shape=), discriminator(shape=): factories, see `models/progressive.py`. stages: sizes, of which
    each doubles the sides of the one before. stage_steps: optimisation steps per stage; in the first half of them the
    new layers fade in. judge: folder of an exported classifier, for the FID and the other scores.

    A served model takes {"row": int64 [B]}: each row number names one example, always the same.
    """

    monitor: ClassVar[tuple[str, str]] = ("fid", "min")
    inputs: ClassVar[tuple[str, ...]] = ("row",)
    targets: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        generator: Callable[..., nn.Module],
        discriminator: Callable[..., nn.Module],
        judge: str,
        stages: Count = 3,
        stage_steps: Count = 400,
        optimizer: Callable[..., Optimizer] = adam,
        latent: Count = 64,
        critic_steps: Count = 1,
        generator_rate: Positive = 0.5,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.judge = Judge(judge)
        self.stages = stages
        self.stage_steps = stage_steps
        self.optimizer = optimizer
        self.latent = latent
        self.critic_steps = critic_steps
        self.generator_rate = generator_rate
        self.side = 0  # height of the last stage's pictures

    def setup(self, spec: Spec) -> State:
        """Build both networks for all stages, with one optimiser each; Refusal if one has fewer widths than stages."""
        spec.check_columns("Progressive", "image")
        height, width, channels = spec.columns["image"]
        shape = (channels, height, width)
        self.side = height or 0
        modules = {
            "discriminator": self.discriminator(shape=shape),
            "generator": self.generator(latent=self.latent, shape=shape),
        }
        for name, module in modules.items():
            widths = len(module.get_submodule("stages"))  # type: ignore[arg-type]
            if widths < self.stages:
                raise Refusal(
                    f"task.stages: {self.stages} are more than the {widths} of task.{name}.widths; lower it or add some"
                )
        return adversarial.rivals(modules, self.optimizer, self.generator_rate)

    def level(self, step: int) -> float:
        """Return the level of the networks at a step: whole in the second half of a stage, rising in the first."""
        stage, within = divmod(step, self.stage_steps)
        if stage == 0:
            return 0.0
        return min(stage - 1 + min(1.0, 2 * (within + 1) / self.stage_steps), self.stages - 1.0)

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Return what `adversarial.alternate` returns."""
        return adversarial.alternate(update, self.critic_steps, self.discriminator_loss, self.generator_loss)

    def discriminator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss over real and generated pictures of this step's size, and D's mean output on both."""
        level = self.level(state.step)
        with torch.no_grad():
            z = adversarial.draw_latents(len(shard.batch["row"]), self.latent, shard)
            generated = state.modules["generator"](z, level)
            pictures = shrink(to_signed(shard.batch["image"]), generated.shape[-1], level)
        real, fake = (state.modules["discriminator"](part, level).float() for part in (pictures, generated))
        metrics = {"real": real.detach().sigmoid().mean(), "fake": fake.detach().sigmoid().mean()}
        return discriminator_loss(real, fake), metrics

    def generator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of -log D(G(z)); there are no metrics."""
        level = self.level(state.step)
        z = adversarial.draw_latents(len(shard.batch["row"]), self.latent, shard)
        generated = state.modules["generator"](z, level)
        return generator_loss(state.modules["discriminator"](generated, level).float()), {}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"image": uint8 [B, H, W, C]}, enlarged to the last stage's size.

        With real pictures in the batch, add "latent" [B, latent], what `Judge.compare` returns and, of the film from
        each example to that of the next row number, what `film_changes` returns.
        """
        rows = batch["row"].cpu().numpy()
        latent = adversarial.latents(rows, self.latent)
        generated = self._generate(state, latent)
        if "image" not in batch:
            return {"image": generated}
        vectors = interpolate(latent, adversarial.latents(rows + 1, self.latent), FILM_STEPS)
        film = torch.stack([self._generate(state, z) for z in vectors])
        z = torch.from_numpy(latent).to(generated.device)
        return {"image": generated, "latent": z, **film_changes(film), **self.judge.compare(generated, batch["image"])}

    def _generate(self, state: State, latent: np.ndarray) -> Tensor:
        """Return pictures uint8 [B, H, W, C] of latent vectors [B, latent]."""
        net = state.modules["generator"]
        z = torch.from_numpy(latent.astype(np.float32)).to(next(net.parameters()).device)
        pictures = net(z, self.level(max(0, state.step - 1)))
        return to_bytes(F.interpolate(pictures, scale_factor=float(self.side // pictures.shape[-2])))

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return what `picture_scores` returns, film_jump, and ink_r2, width_r2, height_r2, slant_r2.

        film_jump: the largest change between neighbouring frames of a film relative to the change between its ends,
        both averaged over all films. It is 1 for a cut, and 1/11 for twelve frames that change evenly. ..._r2: how much
        of an attribute a linear probe explains from the latent vector, on the examples that it was not fitted to.
        """
        jump = float(predictions["largest_change"].mean() / max(predictions["end_change"].mean(), 1e-9))
        shapes = measure_shapes(predictions["image"]).items()
        probes = {f"{name}_r2": fit_direction(predictions["latent"], attribute)[1] for name, attribute in shapes}
        return {**picture_scores(predictions), "film_jump": jump, **probes}

    @torch.no_grad()
    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw samples, films between pairs of examples, and a row of pictures along each direction."""
        from ..drawings.mosaic import draw_mosaic

        latent = predictions["latent"]

        def generate(z: np.ndarray) -> np.ndarray:
            """Return the pictures of latent vectors [N, latent]."""
            return self._generate(state, z).cpu().numpy()

        films = np.concatenate([interpolate(latent[2 * i], latent[2 * i + 1], FILM_STEPS) for i in range(FILMS)])
        moves = np.linspace(-REACH, REACH, FILM_STEPS)[:, None]
        lines = ["attribute  R² of a line  change from -1 to +1, in standard deviations (a random direction)"]
        rows = []
        control = np.random.default_rng(0).standard_normal(self.latent)
        for name, attribute in measure_shapes(predictions["image"]).items():
            direction, explained = fit_direction(latent, attribute)
            changes = []
            for unit in (direction, control / np.linalg.norm(control)):
                ends = [measure_shapes(generate(latent[:MOVED] + sign * unit))[name].mean() for sign in (-1, 1)]
                changes.append((ends[1] - ends[0]) / max(attribute.std(), 1e-9))
            lines.append(f"{name:9}  {explained:12.2f}  {changes[0]:+.2f} ({changes[1]:+.2f})")
            start = latent[0] - (latent[0] @ direction) * direction
            rows.append(generate(start + moves * direction))
        return {
            "samples": draw_mosaic(predictions["image"][: adversarial.GRID_SIZE]),
            "films": draw_mosaic(generate(films), columns=FILM_STEPS),
            "directions": draw_mosaic(np.concatenate(rows), columns=FILM_STEPS),
            "attributes": "\n".join(lines) + "\n",
            **draw_sample_sizes(predictions),
        }

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return whether modes collapsed or were dropped, and what judges the pictures."""
        verdict = describe_modes(scores["coverage"], scores["spread"], ALARM, scores["variety"])
        return {"mode_collapse": verdict, "features": self.judge.description}


def shrink(pictures: Tensor, side: int, level: float) -> Tensor:
    """Return pictures [B, C, H, W] with `side` pixels a side, as sharp as those of a generator at `level`."""
    pictures = F.avg_pool2d(pictures, pictures.shape[-1] // side) if side < pictures.shape[-1] else pictures
    fade = level % 1
    if fade == 0:
        return pictures
    return torch.lerp(F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0), pictures, fade)


def interpolate(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Return `steps` latent vectors from each of [..., F] to its partner on an arc, so that all are about as long.

    The result is [steps, ..., F].
    """
    share = np.linspace(0, 1, steps).reshape(steps, *[1] * start.ndim)
    lengths = np.linalg.norm(start, axis=-1, keepdims=True) * np.linalg.norm(end, axis=-1, keepdims=True)
    angle = np.arccos(np.clip((start * end).sum(-1, keepdims=True) / lengths, -1, 1))
    sine = np.sin(angle)
    is_line = sine < 1e-6
    arc = (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.where(is_line, 1, sine)
    return np.where(is_line, start + share * (end - start), arc)


def film_changes(film: Tensor) -> dict[str, Tensor]:
    """Return the mean absolute difference of two frames of each film: {largest_change, end_change}, float32 [B].

    film: frames uint8 [T, B, H, W, C]. largest_change: of the two neighbours that differ most. end_change: of the first
    and the last frame.
    """
    frames = film.float()
    changes = frames.diff(dim=0).abs().mean((2, 3, 4))
    return {"largest_change": changes.amax(0), "end_change": (frames[-1] - frames[0]).abs().mean((1, 2, 3))}
