"""The ablation of guards: its rows change what they say, and it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.guards import ROWS, WHOLE, Ablation, lasting_of, main, run, settings_of, table

ROOT = Path(__file__).parents[2]
BASE = {
    "reward": 0.5, "mm_dist": 2.0, "fid": 1.0, "skating": 0.3, "acceleration": 4.0, "diversity": 9.0,
    "distances": [1.9, 2.1],
}  # fmt: skip


def test_rows_change_one_guard_each() -> None:
    """A row that changes two things, or nothing, would be read as the worth of one guard."""
    config = Ablation()
    ceilings = {True: 0.9, False: 0.8}
    whole = settings_of(config, ROWS[WHOLE], ceilings)
    assert whole.guards.realism_weight > 0 and whole.guards.anchor_weight > 0 and whole.guards.saturation is None
    for name, row in ROWS.items():
        settings = settings_of(config, row, ceilings)
        changed = [k for k in vars(whole.guards) if getattr(whole.guards, k) != getattr(settings.guards, k)]
        others = [settings.noise_power != whole.noise_power, not row.ensemble, row.keep != 1.0, row.watched]
        assert len(changed) + sum(others) == {
            WHOLE: 0,
            "none": 5,
            "only stop rules": 6,
            "only alarm": 7,
        }.get(name, 1), name
        assert ("stop rules" in name or "alarm" in name) == (settings.guards.monitor_every > 0)
    assert settings_of(config, ROWS["with saturation"], ceilings).guards.saturation == 0.9
    with pytest.raises(ValueError, match="unknown"):
        Ablation(rows=("no gravity",))
    with pytest.raises(ValueError, match="lora_rank=0: rows are kept as adapters"):
        Ablation(align=replace(config.align, lora_rank=0))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompts": 64}, "prompts"),
        ({"archive": Path("kit.npz")}, "archive"),
        ({"train_items": 100}, "train_items"),
        ({"rewards": ("reward", "reward-b")}, "ensemble"),
    ],
)
def test_rows_of_other_settings_are_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    """Prevents a table whose rows were examined on different prompts, or trained on different data."""
    config = Ablation(checkpoints=ROOT / "checkpoints", out=tmp_path, rows=())
    (tmp_path / "rows.json").write_text(json.dumps({"settings": lasting_of(config), "rows": {"base": BASE}}))
    assert "| base | 0.5000 |" in run(config)
    with pytest.raises(ValueError, match=f"holds results of other settings .*{named}.* Choose another"):
        run(replace(config, **change))


def test_table_tells_changes_from_the_base() -> None:
    better = BASE | {"mm_dist": 1.5, "distances": [1.4, 1.6]}
    text = table({"base": BASE, WHOLE: better}, 40)
    assert (
        "| default settings | +0.0000 | -0.5000 [-0.5000, -0.5000] |" in text and "| base | 0.5000 | 2.0000 |" in text
    )


@pytest.mark.slow
def test_smoke_runs_and_goes_on(tmp_path, capsys) -> None:
    """Two rows from the shipped checkpoints; a second call only prints."""
    arguments = [
        "--smoke",
        "--rows",
        WHOLE,
        "keep 0.4",
        "only stop rules",
        "only alarm",
        "--out",
        str(tmp_path),
        "--checkpoints",
        str(ROOT / "checkpoints"),
    ]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert all(f"| {row} |" in first for row in ("keep 0.4", "only stop rules", "only alarm"))
    assert (tmp_path / "report.md").exists()
    assert main(arguments) == 0 and capsys.readouterr().out == first
