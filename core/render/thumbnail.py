"""A motion at a glance: stick figures at even times, side by side, as a small SVG; no graphics driver needed.

The figures are seen from the front, a little from their left, each where it stands; colours are the page's own
(currentColor), and time runs from left to right, from faint to full.
"""

from __future__ import annotations

import numpy as np

from core.motion.skeleton import JOINT, KINEMATIC_CHAINS

FIGURES = 5
_STEP_CM = 86  # from one figure to the next
_TOP_CM = 205  # what is higher, such as a raised hand, is drawn beyond the edge
_BELOW_CM = 12
_YAW = np.deg2rad(28.0)  # of the camera, from the front towards the body's left
_HEAD_CM = 11  # radius


def pose_strip_svg(joints: np.ndarray, figures: int = FIGURES) -> str:
    """joints (F, 22, 3) in metres -> an SVG element of `figures` stick figures, about 1.5 kB each four."""
    times = np.linspace(0, len(joints) - 1, figures).round().astype(int)
    drawn = "".join(_figure(joints[time], i, (i + 1.5) / (figures + 0.5)) for i, time in enumerate(times))
    box = f"0 {-_TOP_CM} {figures * _STEP_CM} {_TOP_CM + _BELOW_CM}"
    ground = f'<path class="ground" d="M0,2H{figures * _STEP_CM}"/>'
    return f'<svg class="strip" viewBox="{box}" aria-hidden="true" focusable="false">{ground}{drawn}</svg>'


def _figure(joints: np.ndarray, place: int, opacity: float) -> str:
    """One pose (22, 3), its pelvis over the middle of its place."""
    across = np.cos(_YAW) * joints[:, 0] - np.sin(_YAW) * joints[:, 2]
    x = np.rint(100 * (across - across[0]) + (place + 0.5) * _STEP_CM).astype(int)
    y = np.rint(-100 * joints[:, 1]).astype(int)
    lines = "".join("M" + "L".join(f"{x[j]},{y[j]}" for j in chain) for chain in KINEMATIC_CHAINS)
    head = f'<circle cx="{x[JOINT["head"]]}" cy="{y[JOINT["head"]] - 6}" r="{_HEAD_CM}"/>'
    return f'<g opacity="{opacity:.2f}"><path d="{lines}"/>{head}</g>'
