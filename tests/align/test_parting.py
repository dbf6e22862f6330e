"""Where reward and judge part, from looks small enough to see it."""

from __future__ import annotations

import json

import numpy as np

from core.align.parting import Look, parting, picture, sentence
from core.models.card import write_card

EASY = np.linspace(1.0, 2.0, 40)


def look(place: float, reward: float, shift: float) -> Look:
    """MM-Dist of every prompt moved by `shift`, with a little noise of its own."""
    noise = np.random.default_rng(int(place)).normal(0, 0.01, len(EASY))
    return Look(place, reward, {"unseen": reward - 0.1}, (EASY + shift + noise).tolist())


def test_they_part_where_the_judge_turns_and_the_reward_goes_on() -> None:
    looks = [look(0, 0.5, 0.0), look(25, 0.6, -0.2), look(50, 0.7, -0.2), look(75, 0.8, 0.1)]
    best = min(looks, key=lambda one: one.mm_dist).place
    assert parting(looks) == best and best in (25, 50)
    assert f"part after {best} updates (reward" in sentence(looks) and "after 75 updates reward" in sentence(looks)


def test_an_average_tells_of_what_ships_and_of_more_of_it() -> None:
    looks = [look(0, 0.5, 0.0), look(1.0, 0.6, -0.2), look(2.0, 0.8, 0.1)]
    said = sentence(looks, averaged=True)
    assert said.startswith("What ships: reward +0.1000, MM-Dist -0.") and "MM-Dist +0.1" in said
    assert "part after 1 times the change that ships" in said and "after 2 times the change" in said
    assert "No parting of reward and judge is shown up to 1 times" in sentence(looks[:2], averaged=True)


def test_noise_and_a_falling_reward_are_no_parting() -> None:
    """A judge that only wavers, and a policy that gets worse by both, must not be called reward hacking."""
    wavering = [look(0, 0.5, 0.0), look(25, 0.6, -0.2), look(50, 0.7, -0.199)]
    worse = [look(0, 0.5, 0.0), look(25, 0.4, 0.3)]
    assert parting(wavering) is None and parting(worse) is None
    assert "No parting of reward and judge is shown up to 50 updates" in sentence(wavering)


def test_policies_alike_hardly_ever_part() -> None:
    """Prevents a parting that is found because the luckiest of many looks is what the others are held against."""
    rng = np.random.default_rng(0)

    def run() -> list[Look]:
        takes = EASY + rng.normal(0, 0.4, (7, len(EASY)))
        return [Look(25 * i, 0.5 + 0.1 * i, {}, row.tolist()) for i, row in enumerate(takes)]

    assert sum(parting(run()) is not None for _ in range(200)) <= 10  # 5 %; without care it is a quarter


def test_card_shows_the_curve(tmp_path) -> None:
    looks = [look(0, 0.5, 0.0), look(25, 0.6, -0.2)]
    assert picture(looks)[:4] == b"\x89PNG"
    folder = tmp_path / "aligned"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "config.json").write_text(json.dumps({"architecture": "LowRank", "parting": sentence(looks)}))
    write_card(folder, "python -m core align")
    text = (folder / "card.md").read_text()
    assert "## Reward and judge" in text and "is shown up to 25" in text and "(curve.png)" in text
