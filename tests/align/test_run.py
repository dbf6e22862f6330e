"""Whole runs on tiny models: learning, resume, guards, several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.align.config import AlignConfig, GuardConfig
from core.align.guards import EnsembleReward
from core.align.monitor import HeldOut, Watch
from core.align.processes import Processes
from core.align.run import align
from core.align.run_files import RunFolder

ROOT = Path(__file__).parents[2]
GUARDS = GuardConfig(
    anchor_weight=0.01,
    ema=0.5,
    physical_weight=0.0,
    monitor_every=4,
    max_acceleration_gain=99,
    max_skating_gain=99,
    max_distance=99,
)
CONFIG = AlignConfig(
    method="easytune", steps=4, last_k=2, updates=12, batch=4, lr=3e-3, lora_rank=2, save_every=3, guards=GUARDS
)


def start(tiny, folder, config=CONFIG, reward=None, **kwargs):
    model = tiny.Diffusion()
    result = align(
        model,
        reward or tiny.Reward(),
        tiny.schedule(config.steps),
        lambda i: tiny.batch(config.batch, seed=100 + i),
        config,
        folder,
        held_out=tiny.batch(8, seed=7),
        **kwargs,
    )
    return model.denoiser.state_dict(), result


def difference(a, b) -> float:
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).abs().max()) for k in a)


class Killed(RuntimeError):
    pass


def kill_at(step: int):
    def callback(now, total, info):
        if now == step:
            raise Killed

    return callback


@pytest.mark.parametrize("method", ["easytune", "terminal-gradient", "draft", "alignprop", "drtune", "refl"])
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_killed_run_resumes_to_the_same_weights(tiny, tmp_path, method, lora_rank) -> None:
    """A kill between saves must cost time only: weights, average and log as if nothing had happened."""
    config = replace(CONFIG, method=method, lora_rank=lora_rank)
    whole, _ = start(tiny, tmp_path / "whole", config)
    with pytest.raises(Killed):
        start(tiny, tmp_path / "killed", config, callback=kill_at(8))
    resumed, result = start(tiny, tmp_path / "killed", config)
    assert difference(whole, resumed) < 1e-6 and result.updates == 12
    assert difference(whole, tiny.Diffusion().denoiser.state_dict()) > 1e-4
    logs = [[json.loads(x) for x in (tmp_path / n / "metrics.jsonl").open()] for n in ("whole", "killed")]
    assert [row["update"] for row in logs[0]] == [row["update"] for row in logs[1]]


def test_reward_rises_and_module_is_ordinary_again(tiny, tmp_path) -> None:
    """Fails on a wrong sign; and a shipped checkpoint must not carry adapter names."""
    steps = []
    weights, result = start(
        tiny, tmp_path, replace(CONFIG, updates=40, lr=1e-2), callback=lambda s, n, info: steps.append((s, n, info))
    )
    rows = [json.loads(x) for x in (tmp_path / "metrics.jsonl").open()]
    monitors = [row["monitors"]["reward_0"] for row in rows if "monitors" in row]
    assert monitors[-1] > monitors[0] + 0.01
    assert weights.keys() == tiny.Diffusion().denoiser.state_dict().keys()
    assert steps[-1][:2] == (40, 40) and steps[-1][2]["reward"] == pytest.approx(rows[-1]["reward"])
    assert result.stopped is None and result.monitors["reward_0"] == monitors[-1]
    base = tiny.Diffusion().denoiser.state_dict()
    for name in ("inner.weight", "outer.weight"):  # the adapters alone rebuild the shipped weights
        a, b = result.adapters[f"{name}.a"], result.adapters[f"{name}.b"]
        torch.testing.assert_close(base[name] + CONFIG.lora_alpha / CONFIG.lora_rank * b @ a, weights[name])


def test_kept_policies_are_those_that_would_be_shipped(tiny, tmp_path) -> None:
    """The report judges the averaged policy; the last one kept is the shipped one."""
    _, result = start(tiny, tmp_path, replace(CONFIG, keep_every=4))
    kept = sorted((tmp_path / "policies").iterdir())
    assert [path.stem for path in kept] == ["000004", "000008", "000012"]
    last = load_file(kept[-1])
    assert last.keys() == result.adapters.keys()
    assert all(torch.equal(last[name], value) for name, value in result.adapters.items())


def test_hackable_reward_trips_the_guard(tiny, tmp_path) -> None:
    """A reward for large numbers is pushed without limit: the run must stop and ship the last policy that passed."""

    class Loud:
        def __call__(self, features, lengths, text):
            return 3 * features.abs().mean((1, 2))

    config = replace(
        CONFIG,
        updates=200,
        lr=5e-2,
        lora_rank=0,
        keep_every=50,
        guards=GuardConfig(anchor_weight=0.0, ema=0.5, monitor_every=4),
    )
    weights, result = start(tiny, tmp_path, config, reward=Loud())
    assert result.stopped is not None and result.updates < 200
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert difference(weights, saved["passed"]) == 0.0
    assert difference(weights, saved["policy"]) > 0.0
    model = tiny.Diffusion()  # what is told of the result is told of what ships, not of the policy that failed
    held_out = HeldOut(model, Loud(), tiny.schedule(4), tiny.batch(8, seed=7), CONFIG.guidance_scale, CONFIG.seed)
    x0_base = held_out.sample()
    model.denoiser.load_state_dict(weights)
    assert result.monitors == pytest.approx(held_out.measure(held_out.sample(), x0_base), abs=1e-5)
    again, result = start(tiny, tmp_path, config, reward=Loud())  # a stopped run stays stopped
    assert difference(weights, again) == 0.0 and result.stopped is not None
    kept = load_file(tmp_path / "policies" / f"{result.updates:06}.safetensors")  # the report ends with what shipped
    assert difference(weights, kept) == 0.0


def test_a_damaged_state_is_named(tiny, tmp_path) -> None:
    """Prevents a traceback, or an error of no file, after a disk that was full."""
    start(tiny, tmp_path, replace(CONFIG, updates=3))
    state = tmp_path / "state.pt"
    for damaged in (b"", b"no state", state.read_bytes()[: state.stat().st_size // 2]):
        state.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"state\.pt is damaged .* Delete .* to start the run anew"):
            start(tiny, tmp_path, CONFIG)


def test_halvings_go_on_to_the_limit(tiny, tmp_path) -> None:
    """Prevents bold updates from ending a short run far before its limit, or beyond it."""

    class Loud:
        def __call__(self, features, lengths, text):
            return 3 * features.abs().mean((1, 2))

    gains, limit = [], 0.5
    loose = GuardConfig(
        anchor_weight=0.0, ema=0.5, monitor_every=1, max_reward_gain=limit, max_diversity_loss=1e9,
        max_skating_gain=1e9, max_acceleration_gain=1e9, max_distance=1e9,
    )  # fmt: skip
    for halvings in (0, 4):
        config = replace(CONFIG, updates=200, lr=2e-2, guards=replace(loose, halvings=halvings))
        folder = tmp_path / str(halvings)
        weights, result = start(tiny, folder, config, reward=Loud())
        assert result.stopped is not None and "enough" in result.stopped
        model = tiny.Diffusion()
        held_out = HeldOut(model, Loud(), tiny.schedule(4), tiny.batch(8, seed=7), CONFIG.guidance_scale, CONFIG.seed)
        x0_base = held_out.sample()
        before = held_out.measure(x0_base, x0_base)["reward_0"]
        model.denoiser.load_state_dict(weights)
        gains.append(held_out.measure(held_out.sample(), x0_base)["reward_0"] - before)
        if halvings:
            assert result.monitors["reward_0"] - before == pytest.approx(gains[-1], abs=1e-4)
    assert gains[0] < gains[1] <= limit + 1e-4


def test_a_first_update_too_bold_still_moves_by_halves(tiny, tmp_path) -> None:
    """Prevents a live step from saying that nothing was made where a part of its only update passed."""
    free = replace(GUARDS, monitor_every=1, ema=0.0)
    _, whole = start(tiny, tmp_path / "free", replace(CONFIG, updates=1, lr=2e-2, guards=free))
    _, base = start(tiny, tmp_path / "base", replace(CONFIG, updates=1, lr=1e-12, guards=free))
    gain = whole.monitors["reward_0"] - base.monitors["reward_0"]
    assert gain > 0
    for halvings, moved in ((0, False), (4, True)):
        bold = replace(CONFIG, lr=2e-2, guards=replace(free, max_reward_gain=gain / 2, halvings=halvings))
        _, result = start(tiny, tmp_path / str(halvings), bold)
        assert result.stopped is not None and result.updates == 1
        assert torch.load(tmp_path / str(halvings) / "state.pt", weights_only=True)["moved"] is moved


def test_disagreeing_rewards_raise_the_alarm(tiny, tmp_path) -> None:
    """A watched member that falls while the trained one rises is the cheapest sign of hacking; none such ships."""
    trained = tiny.Reward()

    class Opposite:
        def __call__(self, features, lengths, text):
            return -trained(features, lengths, text)

    config = replace(CONFIG, updates=100, lr=1e-2, guards=replace(GUARDS, halvings=3))
    weights, result = start(tiny, tmp_path, config, reward=EnsembleReward([trained], watched=[Opposite()]))
    assert result.stopped is not None and "part" in result.stopped
    model = tiny.Diffusion()
    held_out = HeldOut(model, Opposite(), tiny.schedule(4), tiny.batch(8, seed=7), CONFIG.guidance_scale, CONFIG.seed)
    x0_base = held_out.sample()
    before = held_out.measure(x0_base, x0_base)["reward_0"]
    model.denoiser.load_state_dict(weights)
    assert held_out.measure(held_out.sample(), x0_base)["reward_0"] - before >= -GUARDS.alarm_tolerance - 1e-6


@pytest.mark.parametrize("saved", [1, 2, 3])
def test_the_alarm_counts_on_after_a_kill(tiny, tmp_path, saved) -> None:
    """Prevents a run killed between two alarmed checks from learning on: it ends where an uninterrupted one does."""
    trained, opposite = tiny.Reward(), lambda *seen: -tiny.Reward()(*seen)
    reward = EnsembleReward([trained], watched=[opposite])
    guards = replace(GUARDS, monitor_every=1, alarm_patience=4, alarm_tolerance=0.1)
    config = replace(CONFIG, updates=40, lr=1e-3, save_every=1, guards=guards)
    whole, result = start(tiny, tmp_path / "whole", config, reward)
    assert result.stopped is not None and "part" in result.stopped
    assert torch.load(tmp_path / "whole" / "state.pt", weights_only=True)["moved"]  # an earlier policy passed
    with pytest.raises(Killed):
        start(tiny, tmp_path / "killed", config, reward, callback=kill_at(result.updates - saved))
    resumed, again = start(tiny, tmp_path / "killed", config, reward)
    assert (again.stopped, again.updates) == (result.stopped, result.updates)
    assert again.monitors == pytest.approx(result.monitors) and difference(whole, resumed) < 1e-6


def test_random_numbers_of_a_caller_go_on_after_a_kill(tiny, tmp_path) -> None:
    """Prevents a caller's own draws, such as prompts from torch's global stream, from starting over."""

    def drawn(folder: str, stop: int = 99) -> list[float]:
        found: list[float] = []

        def callback(now, total, info):
            if now == stop:
                raise Killed
            found.append(float(torch.rand(())))

        torch.manual_seed(5)
        start(tiny, tmp_path / folder, replace(CONFIG, save_every=1), callback=callback)
        return found

    whole = drawn("whole")
    with pytest.raises(Killed):
        drawn("killed", stop=8)
    assert drawn("killed") == whole[7:11]  # of updates 9 to 12; that of update 8 was never made


def test_what_ships_has_been_looked_at(tiny, tmp_path) -> None:
    """Prevents a last policy that no stop rule and no report has seen, since its number is no multiple."""
    _, result = start(tiny, tmp_path, replace(CONFIG, updates=10, keep_every=4))
    rows = [json.loads(x) for x in (tmp_path / "metrics.jsonl").open()]
    assert [row["update"] for row in rows if "monitors" in row] == [4, 8, 10]
    assert [path.stem for path in sorted((tmp_path / "policies").iterdir())] == ["000004", "000008", "000010"]
    assert result.monitors == [row["monitors"] for row in rows if "monitors" in row][-1]


def test_other_settings_need_another_folder(tiny, tmp_path) -> None:
    """Continuing a run with another learning rate would be a lie in its config; more updates is fine."""
    short = replace(CONFIG, updates=3)
    start(tiny, tmp_path, short)
    assert start(tiny, tmp_path, replace(short, updates=5))[1].updates == 5
    with pytest.raises(ValueError, match="lr="):
        start(tiny, tmp_path, replace(short, lr=1.0))
    with pytest.raises(ValueError, match="steps"):
        align(tiny.Diffusion(), tiny.Reward(), tiny.schedule(3), lambda i: tiny.batch(4), CONFIG, tmp_path / "x")
    with pytest.raises(ValueError, match="rows"):
        align(tiny.Diffusion(), tiny.Reward(), tiny.schedule(4), lambda i: tiny.batch(3), CONFIG, tmp_path / "y")


def test_one_process_of_several_writes(tiny, tmp_path) -> None:
    """Prevents two processes that cut or replace each other's files."""
    start(tiny, tmp_path, replace(CONFIG, updates=3))
    before = contents(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"update": 99}\n')
    other = RunFolder(tmp_path, replace(CONFIG, updates=5), writes=False)
    state = other.load_state()
    assert state is not None and state["update"] == 3
    changed = {path for path, content in contents(tmp_path).items() if content != before[path]}
    assert changed == {tmp_path / "metrics.jsonl"} and '"update": 99' in (tmp_path / "metrics.jsonl").read_text()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_processes_share_out_whole_pairs() -> None:
    """Prevents a realism term that takes the motions of two prompts for two of one."""
    assert [list(Processes(rank, 2).rows(8, together=2)) for rank in (0, 1)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="batch=6 can't be shared out to 2 processes, 2 rows at a time. Choose a mul"):
        Processes(0, 2).rows(6, together=2)


@pytest.mark.parametrize("method", ["easytune", "draft", "terminal-gradient"])
def test_micro_batches_add_up_to_the_batch(tiny, tmp_path, method) -> None:
    """Rows held at once are a matter of memory and must not change the result."""
    config = replace(CONFIG, method=method)
    whole, _ = start(tiny, tmp_path / "whole", config)
    parts, _ = start(tiny, tmp_path / "parts", replace(config, micro_batch=3))
    assert difference(whole, parts) < 1e-9


def test_processes_agree_where_to_stop(tiny) -> None:
    """Prevents one process from stopping by a figure that the other has rounded to the right side of the limit."""
    model, seen = tiny.Diffusion(), []
    held_out = HeldOut(
        model, tiny.Reward(), tiny.schedule(4), tiny.batch(8, seed=7), CONFIG.guidance_scale, CONFIG.seed
    )

    def reduce(figures: torch.Tensor) -> torch.Tensor:
        seen.append(figures)
        return figures + 1.0

    alone, shared = Watch(held_out, GUARDS), Watch(held_out, GUARDS, reduce)
    assert len(seen) == 1 and len(seen[0]) == len(alone.rules.baseline)
    for name, value in alone.rules.baseline.items():
        assert shared.rules.baseline[name] == pytest.approx(value + 1.0)
    assert shared.look() == pytest.approx({name: value + 1.0 for name, value in alone.look().items()})


WORKER = """
import sys; sys.path[:0] = ["tests/align"]
from dataclasses import replace
import torch
from accelerate import PartialState
import conftest as tiny
from core.align.config import AlignConfig, GuardConfig
from core.align.run import align
from core.align.processes import current_processes, leave_together
assert current_processes("cpu").device == "cpu" and current_processes("cpu").count == 2
guards = GuardConfig(anchor_weight=0.01, ema=0.5, physical_weight=0.0, monitor_every=4, max_acceleration_gain=99,
                     max_skating_gain=99, max_distance=99)
config = AlignConfig(steps=4, last_k=2, updates=6, batch=4, lr=3e-3, lora_rank=2, guards=guards)
model = tiny.TinyDiffusion()
align(model, tiny.TinyReward(), tiny.tiny_schedule(4), lambda i: tiny.tiny_batch(4, seed=100 + i), config, sys.argv[1],
      held_out=tiny.tiny_batch(8, seed=7))
torch.save(model.denoiser.state_dict(), f"{sys.argv[1]}/rank{PartialState().process_index}.pt")
leave_together()
"""


@pytest.mark.slow
def test_two_processes_equal_one(tiny, tmp_path) -> None:
    """Gradients are averaged, not summed, and each process takes its own rows and noise."""
    alone, _ = start(tiny, tmp_path / "one", replace(CONFIG, updates=6, save_every=10))
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    (tmp_path / "two").mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*launch, str(script), str(tmp_path / "two")], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in (0, 1):
        together = torch.load(tmp_path / "two" / f"rank{rank}.pt", weights_only=True)
        assert difference(alone, together) < 1e-9
    logs = [[json.loads(x) for x in (tmp_path / n / "metrics.jsonl").open()] for n in ("one", "two")]
    told = [[row["reward"] for row in rows if "reward" in row] for rows in logs]
    assert len(told[0]) > 6 and told[1] == pytest.approx(told[0], abs=1e-6)  # of the whole batch, not of half of it
