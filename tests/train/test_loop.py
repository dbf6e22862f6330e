"""The training loop: resumes exactly, logs what it did, says clearly why it stops."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from core.train.curves import cut_metrics, plot_curves, read_metrics
from core.train.loop import LoopConfig, Trainer, choose_precision, config_of, learning_rate_at, pick_device

SCRIPT = Path(__file__).with_name("interrupted.py")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("interrupted", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(script, tmp_path_factory) -> tuple[Path, torch.nn.Module]:
    """Folder and model of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, script.train(folder)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_killed_run_goes_on_to_the_same_weights(script, finished, tmp_path) -> None:
    """kill -9 in a real process between two saved states, with a line of the log cut in half: fails where the data,
    the noise, the optimiser or the average starts anew, or a step is logged twice."""
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path), "25"], env=env, capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 20
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 27, "lo')
    resumed = script.train(tmp_path)
    for (name, a), b in zip(resumed.named_parameters(), finished[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0, msg=name)
    kept = ("step", "loss", "val_error")
    logs = [[{k: row[k] for k in kept if k in row} for row in rows(folder)] for folder in (tmp_path, finished[0])]
    assert len(logs[0]) == len(logs[1]) == 10
    for a, b in zip(*logs, strict=True):
        assert a == pytest.approx(b, abs=2e-6)


def test_run_leaves_its_files(script, finished) -> None:
    folder, model = finished
    assert not model.training
    assert sorted(p.name for p in folder.iterdir()) == ["curves.png", "metrics.jsonl", "run.json", "state.pt"]
    assert (folder / "curves.png").read_bytes().startswith(PNG)
    training = [row for row in rows(folder) if "loss" in row]
    assert [row["step"] for row in training] == list(range(5, 41, 5))
    assert [row["step"] for row in rows(folder) if "val_error" in row] == [20, 40]
    assert training[-1]["loss"] < 0.7 * training[0]["loss"], "nothing was learnt"
    assert all(row["half"] == pytest.approx(row["loss"] / 2, abs=1e-5) and row["gradient_norm"] > 0 for row in training)
    assert all(a["seconds"] <= b["seconds"] for a, b in zip(training, training[1:], strict=False))


def test_finished_run_is_not_trained_further(script, finished) -> None:
    before = (finished[0] / "metrics.jsonl").read_text()
    again = script.train(finished[0])
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), finished[1].parameters(), strict=True))
    assert (finished[0] / "metrics.jsonl").read_text() == before


def test_average_of_decay_zero_is_the_trained_model(script, tmp_path) -> None:
    """Fails where raw weights are shipped for averaged ones, or the average lags a step behind."""
    task = script.Toy()
    trained = Trainer(task, replace(script.CONFIG, steps=3, ema=0.0), tmp_path, {}).run()
    for a, b in zip(trained.parameters(), task.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    other = script.Toy()
    averaged = Trainer(other, replace(script.CONFIG, steps=3, ema=0.5), tmp_path / "ema", {}).run()
    assert any(not torch.equal(a, b) for a, b in zip(averaged.parameters(), other.model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(task.model.parameters(), other.model.parameters(), strict=True))


def test_loss_that_is_not_finite_stops_and_leaves_the_last_good_state(script, tmp_path) -> None:
    """Fails where a run goes on for hours on NaN, or NaN is saved."""
    task = script.Toy()
    task.poisoned_step = 13
    with pytest.raises(FloatingPointError, match="not finite at step 13. Lower --loop.learning-rate"):
        Trainer(task, script.CONFIG, tmp_path, {}).run()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 10 and all(v.isfinite().all() for v in state["model"].values())
    assert all(p.isfinite().all() for p in task.model.parameters())


def test_callback_sees_the_figures_and_may_cancel(script, tmp_path) -> None:
    seen = []

    def callback(step: int, total: int, values: dict[str, float]) -> None:
        seen.append((step, total, set(values)))
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(script.Toy(), script.CONFIG, tmp_path, {}).run(callback)
    assert seen == [(step, 40, {"loss", "half", "gradient_norm"}) for step in (5, 10)]


@pytest.mark.parametrize("damage", ["other model", "cut", "empty"])
def test_state_that_does_not_fit_is_named(script, finished, tmp_path, damage) -> None:
    state = (finished[0] / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes({"other model": state, "cut": state[:500], "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"state\.pt is damaged or of another model .* Delete .* to start anew"):
        Trainer(script.Toy(width=8 if damage == "other model" else 16), script.CONFIG, tmp_path, {})


def test_resolved_configuration_is_written(script, tmp_path) -> None:
    Trainer(script.Toy(), script.CONFIG, tmp_path, config_of(script.CONFIG))
    assert json.loads((tmp_path / "run.json").read_text())["LoopConfig"]["warmup"] == 5


def record(**changes) -> dict:
    """What run.json holds of a run: its settings, with some changed, and what it was made from."""
    loop = {"steps": 40, "seed": 0, "learning_rate": 0.01, **changes.pop("loop", {})}
    training = {"loop": loop, "model": {"width": 16}, "data": {"archive": "a.npz", "train_items": 9}, **changes}
    return {"TrainToy": training, "made_from": {"archive": "abc"}}


def begin(script, folder: Path) -> None:
    """A run left after 20 of its 40 steps."""
    Trainer(script.Toy(), replace(script.CONFIG, steps=20), folder, record()).run()


@pytest.mark.parametrize(
    ("resolved", "named"),
    [
        (record(loop={"seed": 1}), "TrainToy.loop.seed=0, not 1"),
        (record(model={"width": 17}), "TrainToy.model.width=16, not 17"),
        (record(data={"archive": "a.npz", "train_items": 8}), "TrainToy.data.train_items=9, not 8"),
        ({**record(), "made_from": {"archive": "def"}}, "made_from.archive='abc', not 'def'"),
    ],
)
def test_a_run_of_other_data_model_or_seed_is_not_continued(script, tmp_path, resolved, named) -> None:
    """Fails where a run goes on with other data, or its record is overwritten by one that is not true."""
    begin(script, tmp_path)
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(ValueError, match=f"holds a run with {named}.*delete that folder to start anew"):
        Trainer(script.Toy(), script.CONFIG, tmp_path, resolved)
    assert (tmp_path / "run.json").read_text() == before


def test_changes_on_the_way_are_logged_and_kept(script, tmp_path, caplog) -> None:
    """Fails where settings change in the middle of a run and nobody can tell afterwards."""
    begin(script, tmp_path)
    moved = record(loop={"learning_rate": 0.02}, data={"archive": "b.npz", "train_items": 9})
    Trainer(script.Toy(), script.CONFIG, tmp_path, moved)
    assert "from step 20 on: TrainToy.loop.learning_rate 0.01 -> 0.02" in caplog.text
    Trainer(script.Toy(), script.CONFIG, tmp_path, moved)  # nothing has changed since
    kept = json.loads((tmp_path / "run.json").read_text())
    was = {"until_step": 20, "TrainToy.loop.learning_rate": 0.01, "TrainToy.data.archive": "a.npz"}
    assert kept["history"] == [was] and kept["TrainToy"]["loop"]["learning_rate"] == 0.02


@pytest.mark.parametrize("left", ["nothing", "settings"])
def test_a_run_without_a_record_goes_on_and_says_so(script, tmp_path, caplog, left) -> None:
    """Fails where runs of an earlier version of this program are lost."""
    begin(script, tmp_path)
    if left == "nothing":
        (tmp_path / "run.json").unlink()
    else:
        (tmp_path / "run.json").write_text(json.dumps({"TrainToy": record()["TrainToy"]}))
    assert Trainer(script.Toy(), script.CONFIG, tmp_path, record()).step == 20
    assert "does not say what it was made from" in caplog.text


def test_learning_rate_warms_up_peaks_and_falls() -> None:
    config = LoopConfig(steps=1000, warmup=100, learning_rate=2.0)
    rates = np.array([learning_rate_at(step, config) for step in range(1001)])
    np.testing.assert_allclose(rates[:100], 2.0 * np.arange(1, 101) / 100)
    assert rates.argmax() in (99, 100) and rates.max() == 2.0
    assert rates[550] == pytest.approx(2.0 * 0.51) and rates[1000] == pytest.approx(0.04)
    assert (np.diff(rates[100:]) < 0).all()
    assert learning_rate_at(5000, config) == pytest.approx(0.04)
    assert learning_rate_at(0, replace(config, warmup=0)) == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"precision": "fp8"}, "precision='fp8' is unknown. Choose auto, fp32 or bf16"),
        ({"log_every": 0}, "log_every=0 must be at least 1"),
        ({"save_every": 0}, "save_every=0 must be at least 1"),
        ({"threads": -1}, "threads=-1 must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be above 0"),
        ({"learning_rate": float("inf")}, "learning_rate=inf must be above 0, and finite"),
        ({"ema": 1.0}, r"ema=1.0 is outside \[0, 1\)"),
    ],
)
def test_settings_out_of_range_are_one_sentence(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        LoopConfig(**options)


def test_devices_and_precisions_come_with_a_reason() -> None:
    assert pick_device("cpu") == "cpu" and pick_device("auto") in ("cuda", "mps", "cpu")
    with pytest.raises(ValueError, match="device='tpu' is not available here. Choose auto or one of .*'cpu'"):
        pick_device("tpu")
    assert choose_precision("fp32", "cpu") == ("no", "float32, as asked")
    assert choose_precision("bf16", "cpu")[0] == "bf16"
    assert choose_precision("auto", "mps") == ("no", "float32: no fast bfloat16 on mps")


def test_metrics_with_a_cut_last_line_are_read_and_drawn(tmp_path) -> None:
    """Fails where a kill in the middle of a write makes every later plot impossible."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "seconds": 0.1, "loss": 2.0}\n{"step": 2, "seconds": 0.2, "loss": 1.0}\n{"step": 3, "l'
    )
    assert read_metrics(path) == {"loss": ([1, 2], [2.0, 1.0])}
    plot_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    cut_metrics(path, 1)
    assert path.read_text() == '{"step": 1, "seconds": 0.1, "loss": 2.0}\n'
    cut_metrics(tmp_path / "none.jsonl", 1)
    path.write_text("")
    plot_curves(path, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path) -> None:
    """Fails where processes learn each on its own, because a loss does not go through the wrapped `forward`."""
    child = str(SCRIPT.with_name("two_processes.py"))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launch, child, str(tmp_path)], env=env, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    first, second = (torch.load(tmp_path / f"weights-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["processes"] == second["processes"] == 2
    for name, value in first["weights"].items():
        torch.testing.assert_close(value, second["weights"][name], msg=name)
