"""Sets of near misses: pools of motions that do the same action in another style, on another side, in another order.

Pools drawn from an ordinary set hold few of them (a sequence of two actions hardly ever comes back in another order),
so here they are made: every pool is one recipe and what a few edits turn it into. Deterministic and cached like
core.data.dataset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from core.data.captions import action_of, style_of
from core.data.clips import ClipArchive, load_archive
from core.data.compose import TEMPO_RATES, Composer, Mix, Part, Recipe, action_group
from core.data.dataset import cached_set, held_out_of, realize_set
from core.data.motion_set import MotionSet
from core.motion.skeleton import MIN_FRAMES

_SHORTEST_PART = 30  # frames of a part of a sequence, as Composer has it
_TRIES = 60  # edits drawn for one pool before it is given up


@dataclass(frozen=True)
class NearMissConfig:
    """Which pools are made. Rows i * size .. (i + 1) * size - 1 of the set are pool i."""

    split: str = "test"
    pools: int = 200
    size: int = 6  # motions of a pool, all of other meaning
    captions: int = 2  # paraphrases of each
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pools < 1 or self.size < 2:
            raise ValueError(f"pools={self.pools} must be at least 1 and size={self.size} at least 2.")


def load_near_misses(archive: Path, config: NearMissConfig) -> MotionSet:
    """The set of `config`, built once and cached beside the archive; raises as core.data.dataset.load_set does."""
    return cached_set(archive, config, f"near-{config.split}", lambda: build_near_misses(load_archive(archive), config))


def build_near_misses(archive: ClipArchive, config: NearMissConfig, workers: int = 2) -> MotionSet:
    """Draw, realise and caption the pools. ValueError where the split's clips allow no pool of that size."""
    composer = Composer(archive.of(config.split), Mix(tempo=0.0), config.seed, held_out_of(config.split))
    recipes: list[Recipe] = []
    for _ in range(100 * config.pools):
        pool = edit_pool(composer.draw(), composer, config.size)
        recipes += pool if len(pool) == config.size else []
        if len(recipes) == config.pools * config.size:
            return realize_set(archive, config, recipes, workers=workers)
    raise ValueError(
        f"Only {len(recipes) // config.size} of {config.pools} pools of {config.size} near misses can be made of the "
        f"{config.split} split. Ask for fewer or smaller ones."
    )


def edit_pool(recipe: Recipe, composer: Composer, size: int) -> list[Recipe]:
    """The recipe and up to size - 1 near misses of it: one to three edits away, the same actions, all distinct."""
    pool, rng = {recipe.meaning: recipe}, composer.rng
    for _ in range(_TRIES):
        edited: Recipe | None = recipe
        for _ in range(rng.choice((1, 1, 2, 3))):
            edited = edited and rng.choice(_EDITS)(edited, composer)
        if edited and action_group(edited.meaning) == action_group(recipe.meaning) and _allowed(edited, composer):
            pool.setdefault(edited.meaning, edited)
        if len(pool) == size:
            break
    return list(pool.values())


def _allowed(recipe: Recipe, composer: Composer) -> bool:
    return not any((s.action, s.style) in composer.held_out for s in recipe.segments)


def _swap_order(recipe: Recipe, composer: Composer) -> Recipe | None:
    return Recipe("then", recipe.parts[::-1]) if recipe.relation == "then" else None


def _swap_side(recipe: Recipe, composer: Composer) -> Recipe | None:
    """All parts mirrored, or one of them."""
    which = composer.rng.choice((*range(len(recipe.parts)), None))
    return _with_parts(
        recipe, [_mirrored(p, composer) if which in (None, i) else p for i, p in enumerate(recipe.parts)]
    )


def _restyle(recipe: Recipe, composer: Composer) -> Recipe | None:
    """Other clips of the same actions: of one part in any style, or of all parts in one style."""
    which, rng = composer.rng.choice((*range(len(recipe.parts)), None)), composer.rng
    style = style_of(composer.clips[rng.randrange(len(composer.clips))].style)
    parts = [_in_style(p, style, recipe, composer) if which in (None, i) else p for i, p in enumerate(recipe.parts)]
    return _with_parts(recipe, parts)


_EDITS: tuple[Callable[[Recipe, Composer], Recipe | None], ...] = (_swap_order, _swap_side, _restyle)


def _with_parts(recipe: Recipe, parts: list[Part | None]) -> Recipe | None:
    whole = [part for part in parts if part]
    return replace(recipe, parts=tuple(whole)) if len(whole) == len(parts) else None


def _mirrored(part: Part, composer: Composer) -> Part:
    return composer.part_of(part.clip, part.start, part.frames, not part.mirror, part.tempo)


def _in_style(part: Part, style: str, recipe: Recipe, composer: Composer) -> Part | None:
    """The same action, side and tempo from a clip of another style, about as long; None where there is none."""
    index = composer.clip_of(action_of(composer.clips[part.clip].content), style)
    if index is None:
        return None
    frames = min(part.frames, len(composer.clips[index]))
    shortest = (_SHORTEST_PART if recipe.relation == "then" else MIN_FRAMES) * TEMPO_RATES[part.tempo] + 1
    start = composer.rng.randint(0, len(composer.clips[index]) - frames)
    return composer.part_of(index, start, frames, part.mirror, part.tempo) if frames > shortest else None
