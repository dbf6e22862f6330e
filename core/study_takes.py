"""Making the takes of a study: by the models, or, for attention checks, from recorded motions and noise."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import core
from core.formats import read_motion
from core.motion.layout import POSITIONS, ROTATIONS
from core.preference.studies import RealMotion, Study
from core.preference.studies_queue import Item
from core.preference.studies_takes import TakeShelf
from core.preference.types import NOISE, REAL, Take
from core.request import Request

if TYPE_CHECKING:
    from core.engine import Engine

log = logging.getLogger(__name__)

_LOADING_TIMEOUT_S = 300.0
_NOISE_M = 0.12  # standard deviation that noise adds to joint positions: nobody takes that for a motion
_NOISE_ROTATION = 0.4  # ... and to the numbers of the 6D rotations
_SAME = 1e-3  # metres and the like: how far the features of one file may differ between machines
_KIND_OF_ENDING = {".npz": "npz", ".npy": "npy", ".bvh": "bvh"}  # of core.formats


class StudyTakes:
    """What the items of a study show: each take is made by whoever needs it first, then taken from the shelf."""

    def __init__(self, engine: Engine, study: Study, shelf: TakeShelf, folder: Path) -> None:
        """folder: where the study's real motions lie. FileNotFoundError or ValueError if one of them can't be read.

        ValueError too for one that was changed since the study began, and for a version that is neither known nor has
        all its takes on the shelf.
        """
        self.engine, self.study, self.shelf, self.folder = engine, study, shelf, folder
        self._making = threading.Lock()
        self._check_versions()
        for real in study.real_motions:
            for version in (REAL, NOISE):
                self._of_file(real, version)

    def of(self, item: Item) -> tuple[Take, Take]:
        """Left and right take of an item; waits while they are made. UnavailableError while no model is ready."""
        left = self._take(item.prompt, item.seed, item.left_version)
        same = item.left_version == item.right_version
        return left, left if same else self._take(item.prompt, item.seed, item.right_version)

    def make_all(self) -> None:
        """Make whatever is missing, in the order of the plan; logs what can't be made and goes on."""
        comparisons = self.study.comparisons()
        for place in dict.fromkeys(self.study.plan()):
            comparison = comparisons[place]
            for version in (comparison.first, comparison.second):
                try:
                    self._take(comparison.prompt, comparison.seed, version)
                except Exception:
                    log.exception("%r by %s can't be made", comparison.prompt, version)
        log.info("All pairs of the study %r are made", self.study.name)

    def _take(self, prompt: str, seed: int, version: str) -> Take:
        found = self.shelf.get(prompt, version)
        if found is not None:
            return found
        self.engine.wait_until_ready(_LOADING_TIMEOUT_S)
        with self._making:  # who waited here mostly finds it made
            found = self.shelf.get(prompt, version)
            return found or self.shelf.put(prompt, version, self.engine.take(Request(prompt, seed=seed), version))

    def _check_versions(self) -> None:
        known = self.engine.versions.names()
        for version in self.study.versions:
            if version in known or all(self.shelf.get(prompt, version) for prompt in self.study.prompts):
                continue
            raise ValueError(
                f"version {version!r} of the study is unknown. Known are {', '.join(known) or 'none'}; "
                "see --checkpoints and --data-dir."
            )

    def _of_file(self, real: RealMotion, version: str) -> None:
        """Put a recorded motion, or its noise, on the shelf."""
        features = np.asarray(self._read(real), np.float32)
        if version == NOISE:
            features = noise_of(features, seed=int(self.study.draw("noise of", real.file) * 2**31))
        take = Take(
            prompt=real.prompt,
            seed=0,
            frames=len(features),
            steps=0,
            guidance_scale=0.0,
            solver="none",
            model_version=version,
            weights_sha256="",
            text_encoder="none",
            device="none",
            code_version=core.__version__,
            torch_version="none",
            motion_sha256=self.engine.store.save_motion(features),
        )
        kept = self.engine.store.load_motion(self.shelf.put(real.prompt, version, take))
        if version == REAL and not (kept.shape == features.shape and np.allclose(kept, features, atol=_SAME)):
            raise ValueError(
                f"{real.file} is not the real motion that study {self.study.name!r} began with. "
                "Put that file back, or rename the study."
            )

    def _read(self, real: RealMotion) -> np.ndarray:
        path = self.folder / real.file
        kind = _KIND_OF_ENDING.get(path.suffix.lower())
        if kind is None:
            raise ValueError(
                f"real motion {real.file!r} is of an unknown kind. Allowed are {', '.join(_KIND_OF_ENDING)}."
            )
        return read_motion(path, self.engine.body(), kind)


def noise_of(features: np.ndarray, seed: int) -> np.ndarray:
    """Features (F, 263) whose every pose is shaken, frame by frame; the same for the same seed."""
    rng, noisy = np.random.default_rng(seed), features.copy()
    for part, strength in ((POSITIONS, _NOISE_M), (ROTATIONS, _NOISE_ROTATION)):
        noisy[:, part] += rng.normal(scale=strength, size=noisy[:, part].shape)
    return noisy
