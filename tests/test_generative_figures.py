"""Check what the generative systems are said to show against their records (docs/records/generative), in every seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.commands.results.record import Record, read_record

ROOT = Path(__file__).parent.parent
FRAMES = 12  # of a film through the latent space: an even change is 1 / (FRAMES - 1) of that between its ends


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def record_of(system: str) -> Record:
    """Return the record of a generative system; fail if it was never measured."""
    record = read_record(Path(f"pipelines/generative/{system}.yaml"))
    assert record is not None
    return record


def scores_of(system: str) -> dict[str, list[float]]:
    return record_of(system).scores


@pytest.mark.parametrize("system", ["conditional", "caption", "sound"])
def test_pictures_agree_with_their_condition(system: str) -> None:
    assert min(scores_of(system)["agreement"]) >= 0.9


@pytest.mark.parametrize("system", ["outline", "street"])
def test_l1_alone_is_nearer_and_blurred(system: str) -> None:
    """Compare the arms: each seed with the GAN is sharper and has the lower FID, each without it is nearer."""
    gan, l1 = scores_of(system), scores_of(f"{system}-l1")
    assert min(gan["sharpness"]) > 1.5 * max(l1["sharpness"])
    assert all(with_gan > without for with_gan, without in zip(gan["l1"], l1["l1"], strict=False))
    assert all(with_gan < without for with_gan, without in zip(gan["fid"], l1["fid"], strict=False))
    # the blur is the arm's, not the data's
    assert min(gan["sharpness"]) > 0.8 * max(gan["real_sharpness"])
    assert max(l1["sharpness"]) < 0.7 * min(l1["real_sharpness"])


def test_films_keep_the_digit_in_most_frames() -> None:
    """Check what is reached: 0.89 of the frames on average over the seeds; the goal of 0.9 in one of five."""
    scores = scores_of("film")
    assert len(scores["agreement"]) >= 5
    assert sum(scores["agreement"]) / len(scores["agreement"]) >= 0.88
    assert max(scores["worst_frame"]) >= 0.9
    assert min(scores["worst_frame"]) >= 0.85
    assert min(scores["real_agreement"]) > max(scores["agreement"]), "the judge itself limits it"


def test_the_reward_of_the_sequence_gan_rises_after_the_likelihood() -> None:
    """Check the rise in most seeds and on average: the discriminator learns too, and pulls the reward towards 0.5."""
    scores = scores_of("sequence")
    rises = [after - before for before, after in zip(scores["reward_before"], scores["reward"], strict=True)]
    assert len(rises) >= 5
    assert sum(rise > 0 for rise in rises) >= 4
    assert sum(rises) / len(rises) > 0.01
    assert min(scores["distinct"]) >= 0.75


def test_the_sequence_gan_learns_from_scratch_without_a_likelihood_phase() -> None:
    scores = scores_of("sequence-scratch")
    assert len(scores["valid"]) >= 3
    assert "reward_before" not in scores
    assert min(scores["valid"]) >= 0.6
    assert min(scores["bigram_f1"]) > 4 * record_of("sequence-scratch").baselines["untrained"]


def test_the_latent_space_of_grown_pictures_is_smooth_and_has_directions() -> None:
    scores = scores_of("growing")
    assert "film_jump" in scores, "measure it: trainyard results --measure pipelines/generative/growing.yaml"
    assert min(scores["film_jump"]) >= 1 / (FRAMES - 1)
    assert max(scores["film_jump"]) < 0.25, "neighbouring frames differ little"
    assert min(scores["width_r2"]) >= 0.4
    assert min(scores["ink_r2"]) >= 0.2


def test_grown_pictures_are_rough_but_nearer_than_noise() -> None:
    """Check what is reached: some classes are missing, which is a stated miss."""
    record = record_of("growing")
    assert max(record.scores["fid"]) < 0.5 * record.baselines["untrained"]
    assert min(record.scores["coverage"]) >= 0.5
