"""The engine over tiny untrained models of the real classes: what the page relies on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core import UnavailableError
from core.engine import Engine
from core.request import FAST, MAX_SEED, Request, usual_steps
from core.settings import ROOT, Settings


@pytest.fixture(scope="module")
def engine(tiny_checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    settings = Settings(device="cpu", data_dir=tmp_path_factory.mktemp("data"), checkpoints=tiny_checkpoints)
    engine = Engine(settings)
    engine.start_loading()
    status = engine.wait_until_ready(300.0)
    assert status.ready, status
    return engine


def quick(**changes: object) -> Request:
    return replace(Request("a person walks forward", duration_s=2.0, seed=5, steps=2), **changes)  # type: ignore[arg-type]


def test_pair_is_stored_with_all_that_makes_it_again(engine: Engine) -> None:
    """Prevents motions that can't be regenerated: both takes come back within 1e-5 from their rows alone."""
    pair = engine.generate(quick(prompt="  a person waves  ", guidance_scale=3, solver="dpm++", steps=3))
    stored = engine.store.pair(pair.id)
    assert stored == pair and stored.left.prompt == "a person waves"
    assert {stored.left.model_version, stored.right.model_version} == {"base", "aligned"}
    for take in (stored.left, stored.right):
        assert np.abs(engine.regenerate(take) - engine.store.load_motion(take)).max() <= 1e-5


def test_versions_start_from_the_same_noise_and_differ(engine: Engine) -> None:
    """Prevents a comparison of two seeds instead of two models, or of one model with itself."""
    pair = engine.generate(quick())
    assert pair.left.seed == pair.right.seed == 5
    assert pair.left.weights_sha256 != pair.right.weights_sha256
    assert pair.left.motion_sha256 != pair.right.motion_sha256
    again = engine.generate(quick())
    hashes = {take.model_version: take.motion_sha256 for take in (pair.left, pair.right)}
    assert hashes == {take.model_version: take.motion_sha256 for take in (again.left, again.right)}


def test_sides_are_random(engine: Engine) -> None:
    """Prevents a blind test in which A is always the same model."""
    versions = {engine.generate(quick(steps=1)).left.model_version for _ in range(20)}
    assert versions == {"base", "aligned"}


def test_length_comes_from_the_text_when_not_given(engine: Engine) -> None:
    """Prevents every clip from having one length."""
    short = engine.generate(quick(prompt="a person raises the right hand", duration_s=None))
    long = engine.generate(quick(prompt="a person walks forward, then turns, then bows", duration_s=None))
    assert short.left.frames < long.left.frames <= 196
    assert engine.generate(quick(duration_s=9.8)).left.frames == 196


def test_vote_reveals_and_is_stored(engine: Engine) -> None:
    """Prevents a reveal that contradicts the stored sides."""
    pair = engine.generate(quick())
    vote = engine.vote(pair.id, "right", "ada", response_s=1.5)
    assert (vote.left_version, vote.right_version) == (pair.left.model_version, pair.right.model_version)
    assert engine.store.votes(pair.id) == [vote]
    engine.undo_vote(pair.id, "ada")
    assert engine.store.votes(pair.id) == []


def test_cancelling_leaves_nothing_behind(engine: Engine) -> None:
    """Prevents half a pair in the history, and an engine that stays locked after a cancelled run."""
    before = engine.store.counts()

    def cancel(done: float, _what: str) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(quick(steps=4), cancel)
    assert engine.store.counts() == before
    engine.generate(quick())


def test_progress_runs_from_zero_to_one_without_names(engine: Engine) -> None:
    """Prevents a bar that jumps back, and a message that tells the voter which model is running."""
    seen: list[tuple[float, str]] = []
    engine.generate(quick(steps=3), lambda done, what: seen.append((done, what)))
    fractions = [done for done, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    assert not any(name in what for _, what in seen for name in ("base", "aligned"))


def test_take_of_other_weights_is_not_regenerated(engine: Engine) -> None:
    """Prevents passing off another model's motion as the stored one."""
    pair = engine.generate(quick())
    with pytest.raises(ValueError, match="weights 0000, which are not loaded"):
        engine.regenerate(replace(pair.left, weights_sha256="0000"))


@pytest.mark.parametrize("kind", ["npz", "npy", "joints"])
def test_exports_hold_the_motion_and_hide_the_name(engine: Engine, kind: str) -> None:
    """Prevents file names that break the blind test, and exports of the wrong side."""
    pair = engine.generate(quick())
    left, right = engine.export(pair.id, "left", kind), engine.export(pair.id, "right", kind)
    assert left.name.startswith(f"arena-{pair.id}-A") and right.name.startswith(f"arena-{pair.id}-B")
    assert not any(name in path.name for path in (left, right) for name in ("base", "aligned"))
    if kind == "npy":
        assert np.array_equal(np.load(left), engine.store.load_motion(pair.left))
    elif kind == "joints":
        assert np.load(right).shape == (pair.right.frames, 22, 3)
    else:
        assert np.load(left)["poses"].shape == (pair.left.frames, 156)
    assert engine.export(pair.id, "left", kind) == left


def test_unknown_exports_are_refused(engine: Engine) -> None:
    """Prevents an empty file under a made-up ending."""
    pair = engine.generate(quick())
    with pytest.raises(ValueError, match="kind='gif' is unknown. Choose one of mp4, glb, bvh, npz, npy, joints"):
        engine.export(pair.id, "left", "gif")
    with pytest.raises(ValueError, match="side='middle' is unknown"):
        engine.export(pair.id, "middle", "npy")


def test_far_prompt_is_noticed(engine: Engine) -> None:
    """Prevents a silent answer to what the models have never seen."""
    assert engine.familiarity_notice("a person walks forward") == ""
    assert "far from what the models have learnt" in engine.familiarity_notice("a person swims up a waterfall")


def test_not_ready_is_a_sentence(tiny_checkpoints: Path, tmp_path: Path) -> None:
    """Prevents an attribute error when Generate is pressed before the models are there."""
    engine = Engine(Settings(data_dir=tmp_path, checkpoints=tiny_checkpoints))
    with pytest.raises(UnavailableError, match="Not ready yet"):
        engine.generate(quick())


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda folder: (folder / "base" / "model.safetensors").unlink(),
            "is missing. Make it with `python -m core train",
        ),
        (
            lambda folder: (folder / "base" / "model.safetensors").write_bytes(b"cut"),
            "damaged.*Make it again with `python -m core train base`",
        ),
        (lambda folder: (folder / "aligned" / "config.json").unlink(), "is missing.*`python -m core align"),
    ],
)
def test_missing_or_damaged_checkpoint_is_a_sentence(
    tiny_checkpoints: Path, tmp_path: Path, damage: object, sentence: str
) -> None:
    """Prevents random weights, or a traceback, in place of a model that isn't there."""
    import shutil

    shutil.copytree(tiny_checkpoints, tmp_path / "checkpoints")
    damage(tmp_path / "checkpoints")  # type: ignore[operator]
    engine = Engine(Settings(device="cpu", data_dir=tmp_path / "data", checkpoints=tmp_path / "checkpoints"))
    engine.start_loading()
    status = engine.wait_until_ready(300.0)
    assert not status.ready and status.error
    with pytest.raises(UnavailableError, match=sentence):
        engine.generate(quick())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n\t "}, "prompt is empty"),
        ({"prompt": "walk " * 1000}, "prompt has .* characters, at most"),
        ({"duration_s": 14.0}, r"duration_s=14.0 is outside 2.0-9.8 \(196 frames at 20 fps\). Choose a shorter clip."),
        ({"duration_s": 1.0}, "duration_s=1.0 is outside 2.0-9.8 .* Choose a longer clip."),
        ({"duration_s": float("nan")}, "duration_s=nan is not a number"),
        ({"duration_s": "long"}, "duration_s='long' is not a number"),
        ({"seed": -1}, f"seed=-1 is outside 0-{MAX_SEED}"),
        ({"seed": 2**40}, "seed=1099511627776 is outside"),
        ({"seed": 1.5}, "seed=1.5 is not a whole number"),
        ({"steps": 0}, "steps=0 is outside 1-1000"),
        ({"steps": 2000}, "steps=2000 is outside 1-1000"),
        ({"steps": "many"}, "steps='many' is not a whole number"),
        ({"guidance_scale": -3}, r"guidance_scale=-3.* is outside 0-20"),
        ({"guidance_scale": float("inf")}, "guidance_scale=inf is not a number"),
        ({"solver": "magic"}, "solver='magic' is unknown. Choose one of ddim"),
    ],
)
def test_bad_request_is_one_sentence(changes: dict[str, object], sentence: str) -> None:
    """Prevents tracebacks and silent corrections of what a user typed."""
    with pytest.raises(ValueError, match=sentence):
        quick(**changes)


def test_request_and_sampler_agree_on_defaults() -> None:
    """Prevents the page from showing other defaults than the command line uses; only the sampler is the fast one."""
    from core.diffusion.rollout import SamplerConfig

    assert Request("a person walks").sampler() == SamplerConfig(FAST.steps, solver=FAST.solver)
    assert usual_steps(SamplerConfig().solver) == SamplerConfig().steps


def test_importing_the_engine_is_light() -> None:
    """Prevents torch, gradio or diffusers from being loaded before the page has opened."""
    code = "import sys, core.engine, core.settings; print(sorted({'torch', 'gradio', 'diffusers'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("port", [-1, 70000])
def test_bad_settings_are_refused(tmp_path: Path, port: int) -> None:
    """Prevents a start that fails later and less clearly."""
    with pytest.raises(ValueError, match=f"port={port} is outside 0-65535"):
        Settings(port=port)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file. Choose a folder."):
        Settings(data_dir=tmp_path / "file")
