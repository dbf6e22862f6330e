"""The votes in the columns that others use: TRL, Pick-a-Pic and MotionCritic. Rows are flat dicts of plain values.

TRL (trl.DPOTrainer, RewardTrainer): prompt, chosen, rejected. Pick-a-Pic (Kirstain et al. 2023): the columns of
yuvalkirstain/pickapic_v1 with `motion` for `image`. MotionCritic (Wang et al. 2025): motion_better and motion_worse,
(F, 25, 3): rotation vectors of SMPL's 24 joints, then the root's position; here with the clip's own F, Y up.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from core.motion.rotations import matrix_to_rotvec
from core.preference.dataset_records import Records
from core.preference.types import Pair, Take

_PROVENANCE = [field.name for field in dataclasses.fields(Take) if field.name != "prompt"]
PREFERENCE_COLUMNS = (
    *("prompt", "chosen", "rejected", "pair_id", "annotator", "chosen_side", "blind", "response_s", "created"),
    *(f"{side}_{name}" for side in ("chosen", "rejected") for name in _PROVENANCE),
)
_LABELS = {"left": (1.0, 0.0), "right": (0.0, 1.0), "tie": (0.5, 0.5), "both_bad": (0.5, 0.5)}  # Pick-a-Pic's


def motion_path(take: Take) -> str:
    """Where the take's features lie in the dataset, relative to its folder."""
    return f"motions/{take.motion_sha256[:2]}/{take.motion_sha256}.npz"


def preference_rows(records: Records) -> list[dict[str, Any]]:
    """One row of PREFERENCE_COLUMNS for each standing vote that names a winner."""
    return [
        {
            "prompt": chosen.prompt,
            "chosen": motion_path(chosen),
            "rejected": motion_path(rejected),
            "pair_id": vote["pair_id"],
            "annotator": vote["annotator"],
            "chosen_side": vote["verdict"],
            "blind": vote["blind"],
            "response_s": vote["response_s"],
            "created": vote["created"].isoformat(),
            **_provenance("chosen", chosen),
            **_provenance("rejected", rejected),
        }
        for vote, chosen, rejected in _decided(records)
    ]


def _decided(records: Records) -> list[tuple[dict[str, Any], Take, Take]]:
    """Standing votes for one side, with the chosen and the rejected take; attention checks teach nothing."""
    pairs = {pair.id: pair for pair in records.pairs}
    votes = [(vote, pairs[vote["pair_id"]]) for vote in records.standing_votes()]
    decided = [(vote, pair) for vote, pair in votes if vote["verdict"] in ("left", "right") and not pair.is_check]
    return [(vote, pair.take(vote["verdict"]), _other(pair, vote["verdict"])) for vote, pair in decided]


def _other(pair: Pair, side: str) -> Take:
    return pair.right if side == "left" else pair.left


def _provenance(prefix: str, take: Take) -> dict[str, Any]:
    return {f"{prefix}_{name}": getattr(take, name) for name in _PROVENANCE}


def pickapic_rows(records: Records) -> list[dict[str, Any]]:
    """One row for each standing vote; has_label is false for a skip."""
    pairs = {pair.id: pair for pair in records.pairs}
    rows = []
    for ranking, vote in enumerate(records.standing_votes()):
        pair, verdict = pairs[vote["pair_id"]], vote["verdict"]
        label = _LABELS.get(verdict, (0.0, 0.0))
        best = pair.take(verdict).motion_sha256 if verdict in ("left", "right") else verdict
        rows.append(
            {
                "caption": pair.left.prompt,
                "motion_0_uid": pair.left.motion_sha256,
                "motion_1_uid": pair.right.motion_sha256,
                "motion_0_url": motion_path(pair.left),
                "motion_1_url": motion_path(pair.right),
                "model_0": pair.left.model_version,
                "model_1": pair.right.model_version,
                "label_0": label[0],
                "label_1": label[1],
                "best_motion_uid": best,
                "has_label": verdict in _LABELS,
                "are_different": pair.left.motion_sha256 != pair.right.motion_sha256,
                "ranking_id": ranking,
                "user_id": vote["annotator"],
                "created_at": vote["created"].isoformat(),
            }
        )
    return rows


def motioncritic_rows(records: Records) -> list[dict[str, Any]]:
    """One row for each standing vote that names a winner; the paths are those of motioncritic_path."""
    return [
        {
            "prompt": chosen.prompt,
            "motion_better": motioncritic_path(chosen.motion_sha256),
            "motion_worse": motioncritic_path(rejected.motion_sha256),
        }
        for _, chosen, rejected in _decided(records)
    ]


def motioncritic_path(motion_sha256: str) -> str:
    """Where motioncritic_motion of a motion lies in the dataset, relative to its folder."""
    return str(Path("views") / "motioncritic" / f"{motion_sha256}.npy")


def motioncritic_motion(pose: np.ndarray, pelvis: np.ndarray) -> np.ndarray:
    """Local rotations (F, 24, 3, 3) and the pelvis' place (F, 3) in metres -> (F, 25, 3) float32."""
    return np.concatenate([matrix_to_rotvec(pose), pelvis[:, None]], 1).astype(np.float32)
