"""What a body does, in two dozen numbers a person has words for; differentiable, so that a policy can be led by them.

Everything is measured on the joints that are drawn (world positions recovered from the features), in metres and
seconds. Norms carry a small constant under the root, so that a body at rest has a finite gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.models.layers import length_mask
from core.motion.features import recover_joints_torch
from core.motion.layout import YAW_VELOCITY
from core.motion.skeleton import FPS, JOINT, LEFT_FOOT, MIRROR, RIGHT_FOOT

_FEET = [*LEFT_FOOT, *RIGHT_FOOT]
_CONTACT_HEIGHTS_M = (0.08, 0.03, 0.08, 0.03)  # of _FEET, as core.metrics.physical counts contact
_CONTACT_SOFTNESS_M = 0.005  # width of the step from "in the air" to "in contact"
_EPS = 1e-6  # under square roots; 1 mm


@dataclass(frozen=True)
class Descriptor:
    """One number: its name, unit, and what people say for more and for less of it."""

    name: str
    unit: str
    more: str
    less: str
    in_proportion: bool = False  # people notice its ratio, not its difference


DESCRIPTORS: tuple[Descriptor, ...] = (
    Descriptor("hands_height", "m", "higher hands", "lower hands"),
    Descriptor("left_hand_height", "m", "higher left hand", "lower left hand"),
    Descriptor("right_hand_height", "m", "higher right hand", "lower right hand"),
    Descriptor("left_hand_peak", "m", "left hand reaching higher", "left hand kept low"),
    Descriptor("right_hand_peak", "m", "right hand reaching higher", "right hand kept low"),
    Descriptor("left_hand_speed", "m/s", "livelier left hand", "calmer left hand", True),
    Descriptor("right_hand_speed", "m/s", "livelier right hand", "calmer right hand", True),
    Descriptor("hands_apart", "m", "arms spread wider", "arms kept closer"),
    Descriptor("left_foot_height", "m", "left foot lifted more", "left foot lifted less"),
    Descriptor("right_foot_height", "m", "right foot lifted more", "right foot lifted less"),
    Descriptor("feet_apart", "m", "wider stance", "narrower stance"),
    Descriptor("skating", "m/s", "more sliding feet", "steadier feet", True),
    Descriptor("penetration", "m", "feet deeper in the floor", "feet on the floor, not in it"),
    Descriptor("speed", "m/s", "faster movement", "slower movement", True),
    Descriptor("body_speed", "m/s", "livelier limbs", "calmer limbs", True),
    Descriptor("acceleration", "m/s^2", "more vigorous movement", "calmer movement", True),
    Descriptor("jerk", "m/s^3", "jerkier movement", "smoother movement", True),
    Descriptor("tempo", "Hz", "quicker rhythm", "slower rhythm", True),
    Descriptor("range", "m", "larger gestures", "smaller gestures", True),
    Descriptor("uprightness", "cosine", "more upright posture", "more bent posture"),
    Descriptor("lean", "m", "leaning forward", "leaning back"),
    Descriptor("head_height", "m", "head held higher", "head held lower"),
    Descriptor("pelvis_height", "m", "straighter legs", "deeper knees"),
    Descriptor("asymmetry", "m", "one-sided movement", "more symmetric movement"),
    Descriptor("travel_speed", "m/s", "walking faster", "walking slower", True),
    Descriptor("distance", "m", "ending farther away", "ending nearer", True),
    Descriptor("turning", "rad/s", "more turning", "less turning", True),
)
N_DESCRIPTORS = len(DESCRIPTORS)


def describe(features: Tensor, lengths: Tensor) -> Tensor:
    """Features (B, F, 263) in physical units, frames (B,), each at least 4 -> (B, K) in the units of DESCRIPTORS.

    Frames beyond a motion's length change nothing.
    """
    joints = recover_joints_torch(features)  # (B, F, 22, 3)
    here = length_mask(lengths, features.shape[1])
    values = _places(joints, here) | _feet(joints, here) | _movement(joints, here) | _posture(joints, here)
    values |= _way(joints, features, lengths, here)
    return torch.stack([values[descriptor.name] for descriptor in DESCRIPTORS], -1)


def _norm(x: Tensor) -> Tensor:
    return (x.square().sum(-1) + _EPS).sqrt()


def _mean(x: Tensor, here: Tensor) -> Tensor:
    """Mean over real frames of (B, F, ...) -> (B,); other axes are averaged as well."""
    x = x.flatten(2).mean(-1) if x.dim() > 2 else x
    return (x * here).sum(1) / here.sum(1)


def _steps(x: Tensor, here: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Time derivative of (B, F, ...) per second^order by differences, and which of its rows are real."""
    return x.diff(n=order, dim=1) * FPS**order, here[:, order:]


def _places(joints: Tensor, here: Tensor) -> dict[str, Tensor]:
    left, right = joints[:, :, JOINT["left_wrist"]], joints[:, :, JOINT["right_wrist"]]
    both = torch.stack([left[..., 1], right[..., 1]], -1)
    found = {"hands_apart": _mean(_norm(left - right), here), "hands_height": _mean(both, here)}
    for side, wrist in (("left", left), ("right", right)):
        found[f"{side}_hand_height"] = _mean(wrist[..., 1], here)
        found[f"{side}_hand_peak"] = wrist[..., 1].masked_fill(~here, -10.0).amax(1)
        velocity, real = _steps(wrist - joints[:, :, 0], here, 1)
        found[f"{side}_hand_speed"] = _mean(_norm(velocity), real)
    return found


def _feet(joints: Tensor, here: Tensor) -> dict[str, Tensor]:
    feet = joints[:, :, _FEET]  # (B, F, 4, 3)
    velocity, real = _steps(feet[..., [0, 2]], here, 1)
    over = (feet[..., 1] - feet.new_tensor(_CONTACT_HEIGHTS_M)) / _CONTACT_SOFTNESS_M
    contact = torch.sigmoid(-torch.maximum(over[:, 1:], over[:, :-1])) * real[..., None]  # (B, F-1, 4)
    ankles = feet[:, :, [0, 2]]
    return {
        "left_foot_height": _mean(feet[:, :, :2, 1], here),
        "right_foot_height": _mean(feet[:, :, 2:, 1], here),
        "feet_apart": _mean(_norm((ankles[:, :, 0] - ankles[:, :, 1])[..., [0, 2]]), here),
        "skating": (contact * _norm(velocity)).sum((1, 2)) / (contact.sum((1, 2)) + _EPS),
        "penetration": _mean((-joints[..., 1].amin(-1)).clamp_min(0.0), here),
    }


def _movement(joints: Tensor, here: Tensor) -> dict[str, Tensor]:
    body = joints - joints[:, :, :1]  # from the pelvis
    v_world, real_1 = _steps(joints, here, 1)
    v_body, _ = _steps(body, here, 1)
    a_world, real_2 = _steps(joints, here, 2)
    a_body, _ = _steps(body, here, 2)
    jerk, real_3 = _steps(joints, here, 3)
    power, effort = _mean(v_body.square(), real_1), _mean(a_body.square(), real_2)
    mean = (body * here[..., None, None]).sum(1, keepdim=True) / here.sum(1)[:, None, None, None]
    return {
        "speed": _mean(_norm(v_world), real_1),
        "body_speed": _mean(_norm(v_body), real_1),
        "acceleration": _mean(_norm(a_world), real_2),
        "jerk": _mean(_norm(jerk), real_3),
        "tempo": ((effort + _EPS) / (power + 1e-3)).sqrt() / (2 * torch.pi),  # of one sine, its frequency
        "range": (_mean((body - mean).square(), here) + _EPS).sqrt(),
    }


def _posture(joints: Tensor, here: Tensor) -> dict[str, Tensor]:
    pelvis, head = joints[:, :, 0], joints[:, :, JOINT["head"]]
    across = joints[:, :, JOINT["left_hip"]] - joints[:, :, JOINT["right_hip"]]
    across = across * across.new_tensor([1.0, 0.0, 1.0])
    forward = torch.stack([-across[..., 2], across[..., 1], across[..., 0]], -1) / _norm(across)[..., None]
    mirrored = (joints - pelvis[:, :, None])[:, :, MIRROR]
    side = across / _norm(across)[..., None]  # reflect at the body's middle plane
    mirrored = mirrored - 2 * (mirrored * side[:, :, None]).sum(-1, keepdim=True) * side[:, :, None]
    return {
        "uprightness": _mean((head - pelvis)[..., 1] / _norm(head - pelvis), here),
        "lean": _mean(((head - pelvis) * forward).sum(-1), here),
        "head_height": _mean(joints[:, :, JOINT["head"], 1], here),
        "pelvis_height": _mean(pelvis[..., 1], here),
        "asymmetry": _mean(_norm(joints - pelvis[:, :, None] - mirrored), here),
    }


def _way(joints: Tensor, features: Tensor, lengths: Tensor, here: Tensor) -> dict[str, Tensor]:
    floor = joints[:, :, 0, [0, 2]]  # (B, F, 2), starts at 0
    velocity, real = _steps(floor, here, 1)
    last = floor[torch.arange(len(floor), device=floor.device), lengths - 1]
    turn = 2 * FPS * features[..., YAW_VELOCITY, None]  # rad/s; the layout stores half the angle
    return {
        "travel_speed": _mean(_norm(velocity), real),
        "distance": _norm(last),
        "turning": _mean(_norm(turn), here),
    }
