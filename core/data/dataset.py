"""Motions with captions, ready to train and to evaluate on: recipes realised into features, kept in one flat array.

Building is deterministic in (archive, split, SetConfig) and cached beside the archive, since it takes minutes.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from core.data.captioned import has_split, is_prepared, load_prepared
from core.data.captions import canonical_caption, caption
from core.data.clips import Clip, ClipArchive, load_archive, pose_joints
from core.data.compose import Composer, Mix, Recipe, realize
from core.data.mixture import SUFFIX, mix, read_mixture
from core.data.motion_set import MotionSet as MotionSet
from core.data.prepare import HELD_OUT
from core.motion.features import extract_features
from core.motion.files import atomic_write
from core.motion.skeleton import MIN_FRAMES, N_FEATURES

log = logging.getLogger(__name__)
FORMAT = 1  # of the cached set; raise it when recipes, captions or features change


@dataclass(frozen=True)
class SetConfig:
    """What a set of motions consists of."""

    split: str = "train"
    items: int = 24_000  # recipes drawn; clips of the split that fit come on top, once each
    captions: int = 2  # paraphrases per item
    seed: int = 0
    mix: Mix = field(default_factory=Mix)


def features_of(recipe: Recipe, clips: Sequence[Clip], rest: np.ndarray) -> np.ndarray:
    """Recipe -> features (F, 263) float32 of convention "smpl"; the floor stays where the archive put it."""
    pose, trans = realize(recipe, clips)
    return extract_features(pose_joints(pose, trans, rest), pose)


def draw_recipes(clips: Sequence[Clip], config: SetConfig) -> list[Recipe]:
    """Every clip that fits as it is, then config.items drawn ones; held-out combinations only in their own split."""
    composer = Composer(clips, config.mix, config.seed, held_out_of(config.split))
    plain = [recipe for i in range(len(clips)) if (recipe := composer.of_clip(i)) is not None]
    return plain + [composer.draw() for _ in range(config.items)]


def held_out_of(split: str) -> frozenset[tuple[str, str]]:
    """(action, style) combinations that no recipe of the split may hold."""
    return frozenset() if split == "heldout" else HELD_OUT


_WORKER: dict[str, object] = {}


def _start_worker(clips: Sequence[Clip], rest: np.ndarray) -> None:
    _WORKER.update(clips=clips, rest=rest)


def _work(recipe: Recipe, dtype: type) -> np.ndarray:
    return features_of(recipe, _WORKER["clips"], _WORKER["rest"]).astype(dtype)  # type: ignore[arg-type]


def build_set(
    archive: ClipArchive, config: SetConfig, workers: int = 2, callback: Callable[[int, int, str], None] | None = None
) -> MotionSet:
    """Draw, realise and caption a set.

    Raises ValueError for an unknown split or one whose clips are too short.
    """
    return realize_set(archive, config, draw_recipes(archive.of(config.split), config), workers, callback)


class Described(Protocol):
    """What a configuration of a set says of it."""

    @property
    def split(self) -> str: ...

    @property
    def captions(self) -> int: ...

    @property
    def seed(self) -> int: ...


def realize_set(
    archive: ClipArchive,
    config: Described,
    recipes: Sequence[Recipe],
    workers: int = 2,
    callback: Callable[[int, int, str], None] | None = None,
) -> MotionSet:
    """Features and captions of recipes; those that turn out too short are left out.

    Training sets are float16 (0.05 % of a value), others float32.
    """
    clips = archive.of(config.split)
    work = partial(_work, dtype=np.float16 if config.split == "train" else np.float32)
    parts: list[np.ndarray] = []
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(clips, archive.rest)) as pool:
        for features in pool.map(work, recipes, chunksize=64):
            parts.append(features)
            if callback and len(parts) % 500 == 0:
                callback(len(parts), len(recipes), "features")
    keep = [i for i, part in enumerate(parts) if len(part) >= MIN_FRAMES]
    rng = random.Random(config.seed + 1)
    captions = tuple(
        tuple(caption(recipes[i].segments, recipes[i].relation, rng) for _ in range(config.captions)) for i in keep
    )
    return MotionSet(
        np.concatenate([parts[i] for i in keep]),
        np.cumsum([0] + [len(parts[i]) for i in keep]),
        captions,
        tuple(canonical_caption(recipes[i].segments, recipes[i].relation) for i in keep),
        tuple(recipes[i].meaning for i in keep),
    )


def load_set(
    archive_path: Path, config: SetConfig, callback: Callable[[int, int, str], None] | None = None
) -> MotionSet:
    """The set of `config` from the archive, built once and cached in `cache/` beside it.

    A prepared set with captions of its own (HumanML3D, BVH folders ...) is taken as it is, a mixture
    (core.data.mixture) as the sets it names; those without the split are left out, except in training. Raises
    FileNotFoundError or ValueError as load_archive does, and ValueError naming a damaged cache file, motions that are
    not of 263 features, or a mixture of which no set has the split.
    """
    if archive_path.suffix == SUFFIX and archive_path.is_file():
        weights = mixed_sets(archive_path, config.split)
        sets = [load_set(path, config, callback) for path in weights]
        return mix(sets, list(weights.values()) if config.split == "train" else [1.0] * len(sets))
    if is_prepared(archive_path):
        return _of_263(load_prepared(archive_path, config.split), archive_path)
    return cached_set(
        archive_path,
        config,
        config.split,
        lambda: build_set(load_archive(archive_path), config, callback=callback),
    )


def mixed_sets(mixture: Path, split: str) -> dict[Path, float]:
    """Archive -> weight of the sets of a mixture that have the split, all of them for "train".

    Raises ValueError where none has it, and as read_mixture does.
    """
    weights = read_mixture(mixture)
    lacking = [] if split == "train" else [path for path in weights if not has_split(path, split)]
    if len(lacking) == len(weights):
        raise ValueError(f"no set of {mixture} has a split {split!r}. Mix in one that has.")
    for path in lacking:
        log.info("%s has no split %r and is left out of it", path, split)
    return {path: weight for path, weight in weights.items() if path not in lacking}


def cached_set(archive_path: Path, config: Any, name: str, build: Callable[[], MotionSet]) -> MotionSet:
    """The set that `build` makes of an archive and a dataclass `config`; kept in `cache/` beside it as name-key.npz.

    Raises ValueError naming a damaged cache file, and what `build` raises.
    """
    archive_hash = hashlib.sha256(archive_path.read_bytes()).hexdigest() if archive_path.exists() else ""
    key = hashlib.sha256(repr((FORMAT, archive_hash, sorted(asdict(config).items()))).encode()).hexdigest()[:16]
    path = archive_path.parent / "cache" / f"{name}-{key}.npz"
    if not path.exists():
        log.info("building the set %s", path.name)
        made = build()
        atomic_write(path, partial(_write_set, made))
    return _read_set(path)


def _of_263(made: MotionSet, path: Path) -> MotionSet:
    if made.features.shape[1] != N_FEATURES:
        raise ValueError(
            f"{path} holds motions of {made.features.shape[1]} features, our models take {N_FEATURES}. "
            "Prepare KIT-ML without `--convention humanml3d`: it is converted then."
        )
    return made


def _write_set(made: MotionSet, file: IO[bytes]) -> None:
    captions, canonical, meanings = (np.array(texts) for texts in (made.captions, made.canonical, made.meanings))
    np.savez(
        file, features=made.features, starts=made.starts, meanings=meanings, captions=captions, canonical=canonical
    )


def _read_set(path: Path) -> MotionSet:
    try:
        with np.load(path, allow_pickle=False) as z:
            captions = tuple(tuple(row) for row in z["captions"].tolist())
            canonical, meanings = tuple(z["canonical"].tolist()), tuple(z["meanings"].tolist())
            return MotionSet(z["features"], z["starts"], captions, canonical, meanings)
    except Exception as error:  # numpy and zipfile raise a dozen kinds for a damaged file
        raise ValueError(f"{path} is damaged ({error}). Delete it, it is built again.") from error
