"""The mean of alignments: what it changes is the mean of what they change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core.__main__ import main
from core.models.checkpoint import add_adapters, fingerprint, load_diffusion, read_adapters, save_adapters


@pytest.fixture
def two(tiny_checkpoints: Path, tmp_path: Path) -> Path:
    """The tiny models with two alignments of different rank and scale."""
    for name in ("base", "vae"):
        (tmp_path / name).symlink_to(tiny_checkpoints / name)
    _, tensors = read_adapters(tiny_checkpoints / "aligned")
    generator = torch.Generator().manual_seed(0)
    for name, rank, scale in (("aligned-a", 1, 0.5), ("aligned-b", 3, 0.02)):
        shapes = {key: (rank, t.shape[1]) if key.endswith(".a") else (t.shape[0], rank) for key, t in tensors.items()}
        adapters = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
        meta = {"command": f"make {name}", "updates": rank, "parting": f"They part at {rank}."}
        save_adapters(tmp_path / name, adapters, scale, meta)
        (tmp_path / name / "curve.png").write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def three(two: Path) -> Path:
    """The same with a third alignment, which nearly undoes the first."""
    _, tensors = read_adapters(two / "aligned-a")
    save_adapters(two / "aligned-c", {key: -3 * t for key, t in tensors.items()}, 0.1, {"command": "make aligned-c"})
    return two


def change(checkpoints: Path, name: str) -> dict[str, torch.Tensor]:
    """What the adapters of a folder add to each weight of the base."""
    base, adapted = (load_diffusion(checkpoints, "cpu", "base").denoiser for _ in range(2))
    described, tensors = read_adapters(checkpoints / name)
    add_adapters(adapted, tensors, described["config"]["scale"])
    before = dict(base.named_parameters())
    return {key: (value - before[key]).detach() for key, value in adapted.named_parameters()}


def test_change_is_the_mean_of_the_changes(two: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents a mean of factors, which is not the factor of the mean, and ranks or scales mixed up."""
    assert main(["align-average", "aligned-a", "aligned-b", "--name", "both", "--checkpoints", str(two)]) == 0
    assert "mean of aligned-a, aligned-b" in capsys.readouterr().out
    a, b, both = (change(two, name) for name in ("aligned-a", "aligned-b", "both"))
    moved = 0
    for key in both:
        moved += bool(a[key].any())
        assert torch.allclose(both[key], (a[key] + b[key]) / 2, atol=2e-3 * float(a[key].abs().max()) + 1e-6)
    assert moved > 3
    load_diffusion(two, "cpu", "both")
    card = (two / "both" / "card.md").read_text()
    assert "### aligned-b\n\n`make aligned-b`" in card and "They part at 3." in card and "curve-aligned-b.png" in card
    assert (two / "both" / "curve-aligned-a.png").read_bytes() == b"aligned-a"


def test_an_average_among_them_stands_for_its_alignments(three: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents one new alignment from counting as much as all earlier ones, and a card that forgets those."""
    asked = ["align-average", "--checkpoints", str(three)]
    assert main([*asked, "aligned-a", "aligned-b", "--name", "both"]) == 0
    assert main([*asked, "both", "aligned-c", "--name", "all"]) == 0
    assert main([*asked, "aligned-a", "aligned-b", "aligned-c", "--name", "alike"]) == 0
    every, alike = change(three, "all"), change(three, "alike")
    for key, value in alike.items():
        assert torch.allclose(every[key], value, atol=3e-3 * float(value.abs().max()) + 1e-6)
    assert any(value.any() for value in alike.values())
    card = (three / "all" / "card.md").read_text()
    assert card.count("### aligned-") == 2 and "### aligned-b" in card  # c tells of no parting
    assert "- both there: `python -m core align-average" in card and '"aligned-a"' in card
    assert (three / "all" / "curve-aligned-b.png").read_bytes() == b"aligned-b"
    assert main([*asked, "all", "aligned-a", "--name", "again"]) != 0
    assert "aligned-a is in the mean twice" in capsys.readouterr().err
    assert not (three / "again").exists()


def test_scale_goes_further_along_the_mean_and_is_not_inherited(three: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents a scale that is forgotten, and one that makes a mean's members count for more in the next mean."""
    asked = ["align-average", "--checkpoints", str(three)]
    for name, options in (("once", []), ("further", ["--scale", "1.5"])):
        assert main([*asked, "aligned-a", "aligned-b", "--name", name, *options]) == 0
        assert main([*asked, name, "aligned-c", "--name", f"{name}-all"]) == 0
    assert "mean of aligned-a, aligned-b, times 1.5" in capsys.readouterr().out
    once, further, before, after = (change(three, name) for name in ("once", "further", "once-all", "further-all"))
    for key, value in once.items():
        assert torch.allclose(further[key], 1.5 * value, atol=3e-3 * float(value.abs().max()) + 1e-6)
        assert torch.equal(before[key], after[key])
    assert fingerprint(three / "once") != fingerprint(three / "further")  # one file of weights, two models
    assert any(value.any() for value in once.values())
    with pytest.raises(SystemExit):
        main([*asked, "aligned-a", "aligned-b", "--name", "backwards", "--scale", "-1"])
    assert "scale=-1.0 is outside" in " ".join(capsys.readouterr().err.split())


def test_rank_keeps_the_nearest_change(two: Path) -> None:
    """Prevents a cut that is not the best of its rank, or that changes anything where the rank suffices."""
    asked = ["align-average", "aligned-a", "aligned-b", "--checkpoints", str(two)]
    for name, options in (("whole", []), ("four", ["--rank", "4"]), ("two", ["--rank", "2"])):
        assert main([*asked, "--name", name, *options]) == 0
    whole, four, cut = (change(two, name) for name in ("whole", "four", "two"))
    _, stored = read_adapters(two / "two")
    assert {min(tensor.shape) for tensor in stored.values()} == {2}
    lost = 0
    for key, value in whole.items():
        size = 1e-6 + float(value.abs().max())
        assert torch.allclose(four[key], value, atol=3e-3 * size)
        if value.any():
            left_out = torch.linalg.svdvals(value)[2:].norm()  # Eckart & Young
            assert float((value - cut[key]).norm()) == pytest.approx(float(left_out), abs=1e-2 * float(value.norm()))
            lost += bool(left_out > 0.05 * value.norm())
    assert lost >= 3


def test_what_cannot_be_averaged_is_refused_in_a_sentence(two: Path, capsys: pytest.CaptureFixture) -> None:
    described = json.loads((two / "aligned-b" / "config.json").read_text())
    described["config"]["base"] = "0" * 16
    (two / "aligned-b" / "config.json").write_text(json.dumps(described))
    asked = ["align-average", "--checkpoints", str(two), "--name", "both"]
    for names, said in (
        (["aligned-a", "aligned-b"], "different bases"),
        (["aligned-a", "base"], "no low-rank adapters"),
        (["aligned-a", "nothing"], "nothing"),
    ):
        assert main([*asked, *names]) != 0
        assert said in capsys.readouterr().err
    described["config"]["base"] = "1" * 16  # both of a base that has been trained anew since
    for name in ("aligned-a", "aligned-b"):
        (two / name / "config.json").write_text(json.dumps(described))
    assert main([*asked, "aligned-a", "aligned-b"]) != 0 and "another base than" in capsys.readouterr().err
    for name in ("base", "vae", "../both"):
        described["config"]["base"] = fingerprint(two / "base")
        for member in ("aligned-a", "aligned-b"):
            (two / member / "config.json").write_text(json.dumps(described))
        assert main([*asked[:-1], name, "aligned-a", "aligned-b"]) == 1
        assert f"name={name!r}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*asked, "aligned-a"])
    assert "two or more" in " ".join(capsys.readouterr().err.split())
    assert not (two / "both").exists()
