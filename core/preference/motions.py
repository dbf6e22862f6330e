"""Motions as content-addressed files: `<folder>/ab/abcd....npz`, named by the SHA-256 of the features' bytes.

A file is written beside its final place, flushed to the disk and then renamed, so that a name always stands for a
whole motion, whatever moment the process dies. Equal motions share one file; nothing is ever overwritten.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

import numpy as np

from core.motion.files import atomic_write
from core.motion.skeleton import FPS, N_FEATURES

log = logging.getLogger(__name__)

_ATTEMPTS = 3  # another process that starts right now may take our temporary file for a leftover


def features_sha256(features: np.ndarray) -> str:
    """Hash of (F, 263) features as little-endian float32 bytes: the name of the motion."""
    return hashlib.sha256(np.ascontiguousarray(features, dtype="<f4").tobytes()).hexdigest()


class MotionFiles:
    """Folder of motions; safe for many threads and processes at once."""

    def __init__(self, folder: Path) -> None:
        """Create the folder and remove what a killed process left half-written in it."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()

    def path(self, sha256: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(f"{sha256!r} is not a motion's name. Give the 64 hex digits of its hash.")
        return self.folder / sha256[:2] / f"{sha256}.npz"

    def save(self, features: np.ndarray) -> str:
        """Write (F, 263) features durably and return their hash; no write if the motion is already there."""
        if features.ndim != 2 or features.shape[1] != N_FEATURES or not np.isfinite(features).all():
            raise ValueError(f"A motion of shape {features.shape} was refused. Give finite features (F, {N_FEATURES}).")
        features = np.ascontiguousarray(features, dtype="<f4")
        sha256 = features_sha256(features)
        path = self.path(sha256)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, features)
        return sha256

    def load(self, sha256: str) -> np.ndarray:
        """Features (F, 263) float32. FileNotFoundError if absent, ValueError if the file is damaged."""
        path = self.path(sha256)
        if not path.exists():
            raise FileNotFoundError(f"The motion {path} is missing. Restore it, or generate the pair again.")
        try:
            with np.load(path, allow_pickle=False) as archive:
                features = archive["features"]
        except Exception as error:  # numpy and zipfile raise many kinds on a damaged archive
            raise ValueError(f"The motion {path} is damaged ({error}). Restore it, or generate it again.") from error
        if features_sha256(features) != sha256:
            raise ValueError(f"The motion {path} is not the one its name says. Restore it, or generate it again.")
        return features

    def _write(self, path: Path, features: np.ndarray) -> None:
        content = {"features": features, "fps": np.int64(FPS), "convention": np.str_("smpl")}
        for attempt in range(_ATTEMPTS):
            try:
                return atomic_write(path, lambda file: np.savez_compressed(file, **content))
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:
                    raise

    def _remove_leftovers(self) -> None:
        for temporary in self.folder.glob("*/.*.part"):
            temporary.unlink(missing_ok=True)
            log.info("Removed the unfinished file %s", temporary)
