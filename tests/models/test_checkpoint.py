"""Checkpoints: what is saved is loaded, and anything else is one sentence with the command that helps."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.models.checkpoint import (
    apply_adapters,
    load_diffusion,
    load_judge,
    load_module,
    load_reward,
    load_vae,
    save_adapters,
    save_checkpoint,
)
from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.judge import Judge, JudgeConfig
from core.models.lineage import lineage
from core.models.reward import RewardConfig, RewardModel
from core.models.vae import MotionVae, VaeConfig

DENOISER = DenoiserConfig(latent_dim=4, text_dim=12, width=16, layers=1, heads=2)


def modules() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    made = {
        "vae": MotionVae(VaeConfig(latent_dim=4, width=16, hidden=16, blocks=1, refine_width=8)),
        "base": Denoiser(DENOISER),
        "reward": RewardModel(RewardConfig(text_dim=12, width=16, heads=2, motion_layers=1, text_layers=1)),
        "judge": Judge(JudgeConfig(("walks", "waves"), word_dim=8, width=16, embedding=8)),
    }
    for name, buffer in made["vae"].named_buffers():
        buffer.uniform_(0.1, 1000.0 if name == "latent_mean" else 1.0)
    return made


@pytest.fixture
def checkpoints(tmp_path):
    for name, module in modules().items():
        save_checkpoint(tmp_path / name, module, {"seed": 3})
    return tmp_path


@pytest.mark.parametrize("name", ["vae", "base", "reward", "judge"])
def test_round_trip(checkpoints, name) -> None:
    """Matrices within half precision, vectors (normalisation, biases) exactly; frozen and in eval mode."""
    original, loaded = modules()[name], load_module(checkpoints / name)
    assert type(loaded) is type(original) and loaded.config == original.config
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    for key, value in original.state_dict().items():
        back = loaded.state_dict()[key]
        assert back.dtype == value.dtype
        if value.dim() > 1:
            torch.testing.assert_close(back, value, rtol=1e-3, atol=1e-7)
        else:
            assert torch.equal(back, value), key
    assert json.loads((checkpoints / name / "config.json").read_text())["seed"] == 3


def test_saving_again_changes_nothing(checkpoints, tmp_path) -> None:
    """Fails where half precision is rounded once more at every round trip."""
    save_checkpoint(tmp_path / "again", load_module(checkpoints / "base"), {})
    first, second = (load_file(p / "model.safetensors") for p in (checkpoints / "base", tmp_path / "again"))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_values_beyond_half_precision_stay_whole(tmp_path) -> None:
    module = Denoiser(DENOISER)
    with torch.no_grad():
        module.input.weight[0, 0] = 1e6
    save_checkpoint(tmp_path / "base", module, {})
    assert load_module(tmp_path / "base").input.weight[0, 0] == 1e6


@pytest.mark.parametrize(
    ("name", "command"), [("vae", "core train vae"), ("base", "core train base"), ("aligned", "core align")]
)
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_missing_file_names_itself_and_the_command(checkpoints, name, command, file) -> None:
    """Fails where a missing checkpoint becomes random weights or a traceback."""
    folder = checkpoints / name
    if folder.exists():
        (folder / file).unlink()
    elif file == "config.json":
        folder.mkdir()
    else:
        save_adapters(folder, {}, 1.0, {})
        (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} is missing. Make it with `python -m {command}"):
        load_diffusion(checkpoints, version="base" if name == "vae" else name)


def test_truncated_weights_and_broken_config_are_named(checkpoints) -> None:
    path = checkpoints / "reward" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"reward is damaged .* again with `python -m core train reward`"):
        load_reward(checkpoints)
    for text in ("{", "[]"):
        (checkpoints / "judge" / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"judge is damaged .* again with `python -m core train judge`"):
            load_judge(checkpoints)


@pytest.mark.parametrize("change", ["rename", "drop", "extra", "shape", "architecture", "field", "heads"])
def test_checkpoint_of_another_version_is_named(checkpoints, change) -> None:
    """Fails where weights that do not belong are loaded in part."""
    folder = checkpoints / "base"
    tensors = load_file(folder / "model.safetensors")
    described = json.loads((folder / "config.json").read_text())
    expected = {"rename": "input.weight", "drop": "input.weight", "extra": "other", "shape": "input.weight"}
    if change in ("rename", "drop", "shape"):
        value = tensors.pop("input.weight")
        if change != "drop":
            tensors |= {"renamed": value} if change == "rename" else {"input.weight": value[:3]}
    elif change == "extra":
        tensors["other"] = torch.zeros(1)
    elif change == "architecture":
        described["architecture"] = "Unet"
    elif change == "field":
        described["config"]["depth"] = 3
    else:
        described["config"]["heads"] = 3
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="base is of another version .* `python -m core train base`") as error:
        load_module(folder)
    assert expected.get(change, "") in str(error.value) and "\n" not in str(error.value)


def test_a_checkpoint_in_the_wrong_folder_is_refused(checkpoints) -> None:
    with pytest.raises(ValueError, match="holds a Judge, expected is a MotionVae"):
        (checkpoints / "vae").rename(checkpoints / "old")
        (checkpoints / "judge").rename(checkpoints / "vae")
        load_vae(checkpoints)


def adapters_of(denoiser: Denoiser) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    shapes = {n: p.shape for n, p in denoiser.named_parameters() if n in ("input.weight", "layers.0.norm2.weight")}
    rows, cols = shapes["input.weight"]
    return {"input.weight.a": torch.randn(2, cols, generator=g), "input.weight.b": torch.randn(rows, 2, generator=g)}


def test_adapters_are_added_to_the_base(checkpoints) -> None:
    """W + scale B A on the named weight, nothing elsewhere."""
    denoiser = load_module(checkpoints / "base")
    before = {k: v.clone() for k, v in denoiser.state_dict().items()}
    adapters = adapters_of(denoiser)
    save_adapters(checkpoints / "aligned", adapters, 0.5, {"seed": 1})
    apply_adapters(denoiser, checkpoints / "aligned")
    expected = before["input.weight"] + 0.5 * adapters["input.weight.b"] @ adapters["input.weight.a"]
    torch.testing.assert_close(denoiser.state_dict()["input.weight"], expected, atol=5e-3, rtol=1e-3)
    assert all(torch.equal(v, before[k]) for k, v in denoiser.state_dict().items() if k != "input.weight")


@pytest.mark.parametrize("change", ["name", "shape", "half", "scale"])
def test_adapters_of_another_base_are_refused(checkpoints, change) -> None:
    denoiser = load_module(checkpoints / "base")
    adapters = adapters_of(denoiser)
    if change == "name":
        adapters = {k.replace("input", "entry"): v for k, v in adapters.items()}
    elif change == "shape":
        adapters["input.weight.b"] = adapters["input.weight.b"][:5]
    elif change == "half":
        del adapters["input.weight.a"]
    save_adapters(checkpoints / "aligned", adapters, 1.0, {})
    if change == "scale":
        (checkpoints / "aligned" / "config.json").write_text('{"architecture": "LowRank", "config": {}}')
    with pytest.raises(ValueError, match="aligned does not fit the base model"):
        apply_adapters(denoiser, checkpoints / "aligned")


def test_adapters_are_refused_after_the_base_was_trained_anew(checkpoints) -> None:
    """Adapters on other weights of the same shape would load silently and walk strangely."""
    denoiser = load_module(checkpoints / "base")
    save_adapters(checkpoints / "aligned", adapters_of(denoiser), 1.0, {})
    denoiser.output.bias.add_(1.0)
    save_checkpoint(checkpoints / "base", denoiser, {})
    with pytest.raises(ValueError, match="aligned from another base"):
        apply_adapters(denoiser, checkpoints / "aligned")


def test_a_model_aligned_from_itself_is_named(checkpoints) -> None:
    """Prevents a RecursionError where an alignment took its base's place, also by way of a further one."""
    adapters = adapters_of(load_module(checkpoints / "base"))
    save_adapters(checkpoints / "mine", adapters, 1.0, {})
    assert lineage(checkpoints, "mine") == ["mine", "base"] and lineage(checkpoints, "gone") == ["gone"]
    save_adapters(checkpoints / "base", adapters, 1.0, {}, base="mine")
    with pytest.raises(ValueError, match="mine goes round: mine from base from mine. Put back the folder"):
        load_diffusion(checkpoints, version="mine")


def test_whole_model_from_adapters_or_from_whole_weights(tiny_checkpoints, tmp_path) -> None:
    """Both kinds of aligned checkpoint that `align` writes can be loaded, and give the same model."""
    import shutil

    folder = tmp_path / "checkpoints"
    shutil.copytree(tiny_checkpoints, folder)
    aligned = load_diffusion(folder, version="aligned")
    base = load_diffusion(folder)
    assert any(not torch.equal(a, b) for a, b in zip(aligned.parameters(), base.parameters(), strict=True))
    save_checkpoint(folder / "whole", aligned.denoiser, {})
    whole = load_diffusion(folder, version="whole")
    for (name, a), b in zip(aligned.denoiser.named_parameters(), whole.denoiser.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3, msg=name)
