"""The derived figures of the alignment benchmark, from results small enough to check by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.alignment import _check_settings
from benchmarks.alignment_cost import untrained
from benchmarks.alignment_curves import marks
from benchmarks.alignment_report import (
    best,
    cost_headline,
    equal_time,
    gain_at,
    headlines,
    over_time,
    seconds_to_reach,
)
from benchmarks.alignment_setup import BARE, METHODS, Benchmark, World, lasting, refuse_others, scaled
from core.align.plans import PlanOptions, StepPlan, make_plan

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
POINTS = [{"seconds": s, "mm_dist": m} for s, m in ((10.0, 2.0), (20.0, 1.5), (40.0, 1.8))]


def test_times_are_those_of_judged_points() -> None:
    """Prevents a speed-up from interpolation, and a gain before anything was judged."""
    assert best(POINTS, "seconds") == (1.5, 20.0)
    assert seconds_to_reach(POINTS, 1.9, "seconds") == 20.0 and seconds_to_reach(POINTS, 1.0, "seconds") is None
    assert gain_at(POINTS, 2.5, 36.0, "seconds") == 1.0 and isnan(gain_at(POINTS, 2.5, 5.0, "seconds"))
    due_earlier = gain_at(POINTS, 2.5, 39.0, "seconds")  # the look at 40 s, after the update that was going on
    assert due_earlier == pytest.approx(0.7)
    assert equal_time({"a": {"0": {"points": POINTS}}, "b": {"0": {"points": POINTS[:1]}}}, "seconds") == 10.0


def test_cost_ratios() -> None:
    """Prevents a ratio upside down or a trajectory counted as one update."""
    ours = {"saved_bytes": {"10": 4, "50": 4}, "updates": 10} | seconds(5, 1)
    rival = {"saved_bytes": {"10": 20, "50": 100}, "updates": 1} | seconds(20, 0)
    headline = cost_headline({"easytune": ours, "draft-50": rival})
    assert list(headline.values()) == pytest.approx([1.0, 0.04, 50.0, 40.0, 50.0, 40.0])


def seconds(trajectory: float, rollout: float) -> dict[str, list[float]]:
    whole = {f"trajectory_{kind}_s": [trajectory] for kind in ("wall", "cpu")}
    return whole | {f"rollout_{kind}_s": [rollout] for kind in ("wall", "cpu")}


@pytest.mark.parametrize(
    ("method", "steps"), [("easytune", 6), ("draft", 6), ("terminal-gradient", 7), ("alignprop", 0)]
)
def test_rollout_ends_where_training_begins(method: str, steps: int) -> None:
    """Sampling before the first trained step is shared by all updates; a replayed step trains only afterwards."""
    plan = make_plan(method, PlanOptions(8, 2, share=0.0), np.random.default_rng(0))
    assert untrained(plan) == (StepPlan(),) * steps


def test_rows_train_the_published_losses() -> None:
    """Prevents a rival with a loss of its own, and a weight on the reward that only some rows have."""
    world = World(Benchmark(), torch.device("cpu"), None, None, {})  # type: ignore[arg-type]
    for name in METHODS:
        settings = world.settings(name, 0, 50)
        assert (settings.noise_power, settings.reward_weight, settings.guards) == (0.0, 1.0, BARE), name


def test_defaults_are_those_of_the_curves_in_the_documents() -> None:
    """Prevents figures whose command, which names no settings, measures something else today."""
    world = World(Benchmark(), torch.device("cpu"), None, None, {})  # type: ignore[arg-type]
    names = ("easytune", "easytune-fast", "easytune-fast+realism", "draft-50")
    rows = {name: world.settings(name, 0, 50) for name in names}
    assert set(rows) <= set(world.config.names)
    assert [s.lr for s in rows.values()] == [1.5e-4, 4e-4, 6e-4, 3e-4]
    assert [s.guards.realism_weight for s in rows.values()] == [0.0, 0.0, 1.0, 0.0]
    assert {(s.batch, s.micro_batch, s.prefix_stride) for s in rows.values()} == {(16, 8, 5)}
    assert world.config.rewards == ("reward-spl", "reward-b") and world.config.prompts == 64
    assert world.config.seconds_of("draft-50") == 70 * 60 and world.config.seconds_of("refl") == 7 * 60


def test_small_settings_have_folders_of_their_own() -> None:
    """Prevents a trial that blocks the folder of the real benchmark, or moves results from where they are wanted."""
    config = Benchmark()
    smoke = replace(config, smoke=True)
    names = [scaled(c).out.name for c in (config, smoke, replace(config, scale="laptop"))]
    assert names == ["benchmark-alignment", "benchmark-alignment-smoke", "benchmark-alignment-laptop"]
    assert scaled(replace(smoke, out=Path("mine"))).out == Path("mine")


def test_a_longer_curve_is_looked_at_when_the_others_are() -> None:
    """Prevents a comparison in equal time with a row that nobody has looked at yet."""
    config = Benchmark(points=3, earliest=0.25, minutes=1.0)
    assert marks(config, 60.0) == pytest.approx([15.0, 30.0, 60.0])
    assert marks(config, 200.0) == pytest.approx([15.0, 30.0, 50.0, 100.0, 200.0])
    assert marks(config, 30.0) == pytest.approx([7.5, 15.0, 30.0])


def test_a_folder_may_be_looked_at_longer_and_closer_but_not_otherwise() -> None:
    """Prevents measurements of hours that a closer look would have to begin anew."""
    config = Benchmark(checkpoints=CHECKPOINTS)
    now = lasting(config, config.rewards)
    refuse_others(now, lasting(replace(config, points=30, earliest=0.2, minutes=50.0), config.rewards), Path("cells"))
    seen = replace(config, clock="cpu", repeats=1, stages=("cost",), shown=("draft-50",))
    refuse_others(now, lasting(seen, config.rewards), Path("cells"))
    older = {**now, "align": {k: v for k, v in now["align"].items() if k != "renoised"}}
    refuse_others(older, now, Path("cells"))  # measured before there was such a setting
    with pytest.raises(ValueError, match=r"settings \(align\)"):
        refuse_others(older, {**now, "align": {**now["align"], "renoised": 3}}, Path("cells"))
    with pytest.raises(ValueError, match=r"cells holds results of other settings \(prompts\)"):
        refuse_others(now, lasting(replace(config, prompts=9), config.rewards), Path("cells"))


def test_a_row_that_is_new_brings_its_rate_and_a_known_one_keeps_it() -> None:
    """Prevents curves of two rates in one row, and a folder that no row can be added to."""
    config = Benchmark(checkpoints=CHECKPOINTS)
    now = lasting(config, config.rewards)
    before = {**now, "lr_of": {name: rate for name, rate in now["lr_of"].items() if name != "refl"}}
    refuse_others(before, now, Path("cells"))
    with pytest.raises(ValueError, match=r"other settings \(learning rate of easytune\)"):
        refuse_others(
            now, lasting(replace(config, lr_of={"easytune": 3e-4, **config.lr_of}), config.rewards), Path("x")
        )


def test_rows_of_another_ensemble_are_not_joined(tmp_path: Path) -> None:
    """Prevents a table of rows that learnt from different rewards, or from one that was trained anew."""
    config, path = Benchmark(checkpoints=CHECKPOINTS, out=tmp_path), tmp_path / "settings.json"
    rows = ("easytune", "easytune+ensemble")
    _check_settings(config, path)
    _check_settings(replace(config, methods=rows), path)  # more rows may come
    _check_settings(config, path)
    with pytest.raises(ValueError, match=r"other settings \(ensemble\)"):
        _check_settings(replace(config, methods=rows, ensemble=("reward", "reward-b")), path)
    stored = json.loads(path.read_text())
    stored["weights"]["reward"] = "0" * 16  # in the ensemble only
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"other settings \(weights of reward\)"):
        _check_settings(replace(config, methods=rows), path)


def test_rows_follow_the_number_of_steps() -> None:
    """Prevents EasyTune's last fifth from staying 10 steps at T = 10, and more trained steps than there are."""
    assert [METHODS["easytune"].trained_steps(steps) for steps in (50, 10, 4)] == [10, 2, 1]
    world = World(Benchmark(), torch.device("cpu"), None, None, {})  # type: ignore[arg-type]
    fast = [world.settings("easytune-fast", 0, steps) for steps in (50, 10, 4)]
    assert [(s.last_k, s.trained_stride) for s in fast] == [(10, 5), (2, 2), (1, 1)]
    assert METHODS["draft-10"].trained_steps(4) == 4 and METHODS["draft-50"].trained_steps(50) is None
    with pytest.raises(ValueError, match="unknown"):
        Benchmark(methods=("eztune",))


def test_every_row_of_easytune_is_held_against_the_rival() -> None:
    """Prevents a headline that leaves out the guarded or strided rows, or that sets a rival against itself."""
    cell = {"points": POINTS, "test": {"distances": [1.0]}}
    slow = {"points": [{"seconds": s, "mm_dist": m} for s, m in ((30.0, 2.2), (300.0, 1.5))]}
    curves = {"draft-50": {"0": slow}, "draft-1": {"0": cell}, "easytune": {"0": cell}}
    curves |= {"easytune+ema": {"0": cell}, "easytune-fast": {"0": cell}}
    found = headlines({"cost": {}, "base": {"val": {"mm_dist": 2.5}}, "curves": curves}, "seconds")
    assert list(found) == ["easytune", "easytune+ema", "easytune-fast"]
    sooner = "sooner at draft-50's best MM-Dist by"
    assert found["easytune+ema"][sooner].mean == 300.0 / 20.0
    never = {"points": [{"seconds": 9.0, "mm_dist": 2.2}]}
    curves = {"draft-50": {"0": slow, "1": slow}, "easytune": {"0": cell, "1": never}}
    found = headlines({"cost": {}, "base": {"val": {"mm_dist": 2.5}}, "curves": curves}, "seconds")
    assert sooner not in found["easytune"] and found["easytune"][f"{sooner}, seeds 0, 1"] == "15.0, never"
    assert headlines({"cost": {}, "base": {}, "curves": {"easytune": {"0": cell}}}, "seconds") == {}


def test_a_seed_of_one_row_alone_changes_no_headline() -> None:
    """Prevents a seed that has just begun from moving the comparison of all to its first look."""
    slow = {"points": [{"seconds": s, "mm_dist": m} for s, m in ((15.0, 2.2), (300.0, 1.5))]}
    curves = {"draft-50": {"0": slow}, "easytune": {"0": {"points": POINTS}}}
    results = {"cost": {}, "base": {"val": {"mm_dist": 2.5}}, "curves": curves}
    alone = headlines(results, "seconds")
    curves["easytune"]["1"] = {"points": POINTS[:1]}
    assert repr(headlines(results, "seconds")) == repr(alone)  # a single seed has no interval, NaN is not NaN


def test_gains_are_told_for_every_look() -> None:
    """Prevents a gain at one chosen time from standing for the curve, which turns after its best."""
    slow = {"points": [{"seconds": s, "mm_dist": m} for s, m in ((15.0, 2.2), (300.0, 1.5))]}
    results = {"base": {"val": {"mm_dist": 2.5}}, "curves": {"easytune": {"0": {"points": POINTS}}}}
    assert over_time(results, "seconds", "easytune") == ""
    results["curves"]["draft-50"] = {"0": slow}
    rows = [line.split(" | ") for line in over_time(results, "seconds", "easytune").splitlines()[2:]]
    found = [[cell.strip("| ") for cell in row] for row in rows]
    assert found[0] == ["10", "+0.5000", "–", "–"]  # nobody has looked at the slow one by then
    assert [[float(cell) for cell in row] for row in found[1:]] == [[20, 1.0, 0.3, 0.7], [40, 0.7, 0.3, 0.4]]


def test_a_look_tells_of_itself_where_looks_are_close() -> None:
    """Prevents the gain of a later look, up to a tenth later, from standing at an earlier one."""
    close = [{"seconds": 100.0 + 5 * i, "mm_dist": 2.4 - 0.1 * i} for i in range(3)]
    curves = {"easytune": {"0": {"points": close}}, "draft-50": {"0": {"points": close}}}
    table = over_time({"base": {"val": {"mm_dist": 2.5}}, "curves": curves}, "seconds", "easytune")
    assert [line.split(" | ")[1] for line in table.splitlines()[2:]] == ["+0.1000", "+0.2000", "+0.3000"]
