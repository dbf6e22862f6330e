"""HumanML3D and KIT-ML in our own features, so that they can be mixed with our own data and trained together.

HumanML3D has our skeleton: joints come back from its features and are described anew. KIT-ML has 21 joints of its own
at 12.5 fps, in another unit: they are retargeted as a BVH is (core.data.retarget), at 20 fps, feet on the floor.
Which of its joints are left is as its publishers use them (Guo et al. 2022).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from core import Callback
from core.data.captioned import CaptionedMotion, PreparedSet
from core.data.folders import clip_features
from core.data.humanml3d import KIT
from core.data.humanoids import JointMap
from core.data.retarget import at_our_size, pose_of, to_clip
from core.motion.features import extract_features, recover_joints
from core.motion.skeleton import FPS, MAX_FRAMES, MIN_FRAMES, N_FEATURES, N_JOINTS, PARENTS

CONVERTED = "in our features"  # how the source of a converted set ends
N_KIT_JOINTS = 21
_LIMBS = ("hip", "knee", "ankle", "", "foot")  # a leg's five joints; the fourth, inside the foot, has no name with us
_ARM = ("shoulder", "elbow", "wrist")
_STARTS = {"right": (11, 5), "left": (16, 8)}  # first joint of leg and arm
_NAMED = {"pelvis": 0, "neck": 3, "head": 4}
_NAMED |= {
    f"{side}_{part}": start + i
    for side, starts in _STARTS.items()
    for start, parts in zip(starts, (_LIMBS, _ARM), strict=True)
    for i, part in enumerate(parts)
    if part
}
KIT_JOINTS = JointMap(_NAMED, spine=(0, 1, 2, 3))


def in_our_features(prepared: PreparedSet, rest: np.ndarray, callback: Callback | None = None) -> PreparedSet:
    """The same motions on the body with rest joints (24, 3), in convention "smpl" at 20 fps; statistics don't fit it.

    Motions as short as the datasets allow, which come out below our 40 frames, hold their last pose until there. The
    ends of motions beyond 9.8 s are left out and counted as skipped.
    """
    skipped, total, done = prepared.skipped.copy(), sum(map(len, prepared.splits.values())), 0
    splits: dict[str, list[CaptionedMotion]] = {name: [] for name in prepared.splits}
    for split, motions in prepared.splits.items():
        for motion in motions:
            features = _converted(motion, rest)
            done += 1
            if callback:
                callback(done, total, motion.name)
            skipped["ends of motions beyond 9.8 s"] += len(features) > MAX_FRAMES
            splits[split].append(replace(motion, features=features[:MAX_FRAMES]))
    return PreparedSet(f"{prepared.source} {CONVERTED}", FPS, splits, +skipped)


def _converted(motion: CaptionedMotion, rest: np.ndarray) -> np.ndarray:
    if motion.features.shape[1] == KIT.features:
        return kit_features(motion.features, rest)
    offsets = rest[:N_JOINTS] - rest[PARENTS.clip(0)]
    return extract_features(_held(recover_joints(motion.features)), tgt_offsets=offsets)


def _held(frames: np.ndarray) -> np.ndarray:
    """Frames (F, ...) with the last one repeated until MIN_FRAMES features can be made of them, one more."""
    return np.concatenate([frames, np.repeat(frames[-1:], max(0, MIN_FRAMES + 1 - len(frames)), axis=0)])


def kit_joints(features: np.ndarray) -> np.ndarray:
    """KIT-ML's features (F, 251) -> its joints (F, 21, 3) in its own unit, Y up, the first frame facing +Z."""
    ours = np.zeros((len(features), N_FEATURES), dtype=features.dtype)
    used = 4 + 3 * (N_KIT_JOINTS - 1)  # root and positions lie as in HumanML3D, for one joint less
    ours[:, :used] = features[:, :used]
    return recover_joints(ours)[:, :N_KIT_JOINTS]


def kit_features(features: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """KIT-ML's features (F, 251) at 12.5 fps -> ours (F', 263) at 20 fps on the body with rest joints (24, 3)."""
    joints = at_our_size(kit_joints(features).astype(np.float64), KIT_JOINTS, rest, KIT.name)
    clip = to_clip("", *pose_of(joints, rest), KIT.fps, rest)
    return clip_features(replace(clip, rotvecs=_held(clip.rotvecs), trans=_held(clip.trans)), rest)
