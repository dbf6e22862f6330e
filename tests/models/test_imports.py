"""Published files: what fits loads and samples, all else gets one sentence, and nothing in a file is ever run."""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from core.__main__ import main
from core.commands.import_weights import ImportWeights
from core.commands.import_weights import run as import_weights_run
from core.diffusion.rollout import SamplerConfig, make_scheduler, sample_latents
from core.models.checkpoint import load_diffusion, load_module
from core.models.imports import check_keys, import_weights, read_statistics
from core.models.imports_sizes import ImportOptions, build_model
from core.models.mdm_diffusion import MdmDiffusion
from core.models.mld.diffusion import MldDiffusion
from core.text.features import TextFeatures

FIXTURES = Path(__file__).parents[1] / "fixtures"


def weights(name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    with np.load(FIXTURES / f"{name}.npz") as file:
        return {prefix + k[2:]: torch.from_numpy(file[k]).float() for k in file.files if k.startswith("w/")}


def small(kind: str) -> dict[str, torch.Tensor]:
    """Small weights with the published keys, as the official repositories save them."""
    if kind in ("mld", "motionlcm"):
        return weights(f"{kind}_denoiser_small", "denoiser.") | weights(f"{kind}_vae_small", "vae.")
    if kind == "mdm":
        with np.load(FIXTURES / "mdm_small.npz") as file:
            table = torch.from_numpy(file["pe_first_1000_rows"]).float()[:, None]
        tables = ("sequence_pos_encoder.pe", "embed_timestep.sequence_pos_encoder.pe")
        return weights("mdm_small") | {key: table.clone() for key in tables}
    if kind == "spm":
        return weights("spm_small")
    return {key.replace("/", "."): value for key, value in weights("t2m_evaluator_small").items()}


def nested(flat: dict[str, torch.Tensor]) -> dict:
    """One dictionary a network, and the counters beside them, as in finest.tar."""
    out: dict = {"epoch": 7, "iter": 99, "opt_text_encoder": {"state": {}, "lr": 1e-4}}
    for key, value in flat.items():
        network, name = key.split(".", 1)
        out.setdefault(network, {})[name] = value
    return out


KINDS = ("mld", "motionlcm", "mdm", "spm", "t2m-evaluator")
EXTRA = {"mld": "text_encoder.x", "motionlcm": "t2m_textencoder.x", "mdm": "clip_model.x", "spm": "clip.x"}


@pytest.mark.parametrize("kind", KINDS)
def test_official_files_import(kind, tmp_path, capsys):
    """Prevents weights lost or rounded on the way from an official file to our folder."""
    flat = small(kind)
    if kind == "t2m-evaluator":
        torch.save(nested(flat), tmp_path / "finest.tar")
    else:
        torch.save({"state_dict": flat | {EXTRA[kind]: torch.ones(3)}, "epoch": 3}, tmp_path / "finest.tar")
    assert main(["import-weights", kind, str(tmp_path / "finest.tar"), "--checkpoints", str(tmp_path / "ck")]) == 0
    module = load_module(tmp_path / "ck" / kind)
    stored = {k: v for k, v in module.state_dict().items() if not k.startswith("feature_")}
    inside = {"mdm": "denoiser.", "spm": "spm.", "t2m-evaluator": "evaluator."}.get(kind, "")
    assert {inside + k for k in flat} == set(stored)
    assert all(torch.equal(stored[inside + k], v) for k, v in flat.items())
    described = json.loads((tmp_path / "ck" / kind / "config.json").read_text())
    assert described["imported"] == kind and (tmp_path / "ck" / kind / "card.md").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_full_size_listings_fit_exactly(kind):
    """Prevents a size read wrongly from the published shapes."""
    listings = {
        "mld": {"vae.": "keys_mld_vae_full", "denoiser.": "keys_mld_denoiser_full"},
        "motionlcm": {"vae.": "keys_motionlcm_vae_full", "denoiser.": "keys_motionlcm_denoiser_full"},
        "mdm": {"denoiser.": "keys_mdm_humanml_trans_enc_512"},
        "spm": {"spm.": "keys_spm_full"},
        "t2m-evaluator": {"evaluator.": "keys_t2m_evaluator_full"},
    }[kind]
    rows = {
        prefix + row["key"].replace("/", "."): row["shape"]
        for prefix, name in listings.items()
        for row in json.loads((FIXTURES / f"{name}.json").read_text())["state_dict"]
    }
    inside = {"mdm": "denoiser.", "spm": "spm.", "t2m-evaluator": "evaluator."}.get(kind, "")
    found = {key.removeprefix(inside): torch.empty(shape, device="meta") for key, shape in rows.items()}
    model = build_model(kind, found, ImportOptions())
    own = {k: list(v.shape) for k, v in model.state_dict().items() if not k.startswith("feature_")}
    assert own == rows


def text(rows: int, width: int, pooled: int) -> TextFeatures:
    g = torch.Generator().manual_seed(3)
    mask = torch.arange(5) < torch.tensor([[5], [3]])[:rows]
    return TextFeatures(
        torch.randn(rows, 5, width, generator=g) * mask[..., None], mask, torch.randn(rows, pooled, generator=g)
    )


@pytest.mark.parametrize(
    ("kind", "solver", "steps"), [("mld", "ddim", 3), ("motionlcm", "lcm", 2), ("mdm", "ddim", 3), ("mdm", "dpm++", 3)]
)
def test_imported_models_sample(kind, solver, steps, tmp_path):
    """Prevents an import that only loads: finite features of the right length, the same from the same seed alone."""
    torch.save(small(kind), tmp_path / "weights.pt")
    model = import_weights(kind, [tmp_path / "weights.pt"])
    words = text(2, 768, 512 if kind == "mdm" else 768)
    if isinstance(model, MldDiffusion):
        model.null = text(1, 768, 768)
    sampler = SamplerConfig(steps=steps, guidance_scale=2.5, solver=solver)
    lengths = torch.tensor([44, 40])
    latents = sample_latents(model, words, lengths, [1, 2], sampler)
    features = model.decode(latents, lengths)
    assert features.shape == (2, 44, 263) and torch.isfinite(features).all()
    alone = sample_latents(model, words.select([0]), lengths[:1], [1], sampler)
    torch.testing.assert_close(model.decode(alone, lengths[:1])[0], features[0], atol=1e-4, rtol=1e-4)
    other = sample_latents(model, words, lengths, [1, 3], sampler)
    assert torch.equal(other[0], latents[0]) and not torch.equal(other[1], latents[1])


def test_sampling_meets_the_published_trajectory(tmp_path):
    """Prevents another schedule, guidance or parametrisation than the published one: 50 guided steps, every x_t."""
    torch.save(small("mld"), tmp_path / "mld.ckpt")
    model = import_weights("mld", [tmp_path / "mld.ckpt"]).double()
    assert isinstance(model, MldDiffusion)
    data = np.load(FIXTURES / "easytune_step.npz")
    case = {k: torch.from_numpy(data[f"reenact_b3/{k}"]).double() for k in ("x_T", "cond", "uncond")}
    blank = torch.zeros(3, 1, 1, dtype=torch.float64), torch.ones(3, 1, dtype=torch.bool)
    model.null = TextFeatures(blank[0][:1], blank[1][:1], case["uncond"][:1, 0])
    words = TextFeatures(*blank, case["cond"][:, 0])
    scheduler, x_t = make_scheduler(SamplerConfig(steps=50), model.schedule), case["x_T"]
    assert scheduler.timesteps.tolist() == data["timesteps"].tolist()
    for i, t in enumerate(scheduler.timesteps.tolist()):
        np.testing.assert_allclose(x_t.numpy(), data["reenact_b3/x.f64"][i], atol=2e-5)
        x0_hat = model.predict_x0(x_t, t, words, 7.5, torch.tensor([40, 40, 40]))
        x_t = scheduler.step(x0_hat, t, x_t).prev_sample


def test_distilled_weights_are_told_the_guidance(tmp_path):
    """Prevents MotionLCM's extra key from being refused, and guidance from being applied a second time."""
    flat = small("motionlcm")
    g = torch.Generator().manual_seed(0)
    flat["denoiser.time_embedding.cond_proj.weight"] = 0.1 * torch.randn(768, 256, generator=g)
    torch.save({"state_dict": flat}, tmp_path / "motionlcm.ckpt")
    model = import_weights("motionlcm", [tmp_path / "motionlcm.ckpt"])
    x_t, words, n = torch.randn(2, 4, 16, generator=g), text(2, 768, 768), torch.tensor([40, 40])
    assert isinstance(model, MldDiffusion) and model.config.denoiser.guidance_width == 256
    weak, strong = (model.predict_x0(x_t, 499, words, w, n) for w in (1.0, 7.5))  # no null text needed
    assert not torch.allclose(weak, strong)


def test_networks_in_files_of_their_own(tmp_path):
    """Prevents a VAE and a denoiser that were published apart from being refused."""
    save_file(weights("mld_vae_small"), tmp_path / "vae.safetensors")
    save_file(weights("mld_denoiser_small", "denoiser."), tmp_path / "denoiser.safetensors")
    model = import_weights("mld", [tmp_path / "vae.safetensors", tmp_path / "denoiser.safetensors"])
    assert isinstance(model, MldDiffusion)
    with pytest.raises(ValueError, match=r"no mld checkpoint. Of \d+ keys \d+ missing: vae"):
        import_weights("mld", [tmp_path / "denoiser.safetensors"])


class _RunsCode:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, legacy, capsys):
    """Prevents opening a stranger's weights from running a stranger's program."""
    proof, path = tmp_path / "ran.txt", tmp_path / "evil.ckpt"
    content = {"state_dict": small("mld"), "hyper_parameters": _RunsCode(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert main(["import-weights", "mld", str(path), "--checkpoints", str(tmp_path / "ck")]) == 1
    err = capsys.readouterr().err
    assert "refused: it asks for" in err and "system" in err and "Nothing in it was run" in err
    assert not proof.exists() and not (tmp_path / "ck").exists()
    path.write_bytes(pickle.dumps(_RunsCode(proof)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"no file of torch.save; nothing in it was run. Download it again.$"):
            import_weights("mld", [path])
    assert not proof.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.98])
def test_truncated_files_get_one_sentence(tmp_path, suffix, keep):
    path = tmp_path / f"cut{suffix}"
    torch.save(small("mdm"), path) if suffix == ".pt" else save_file(weights("mdm_small"), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(ValueError, match=r"cut\.\w+ is damaged or cut.*Download it again"):
        import_weights("mdm", [path])


@pytest.mark.parametrize("kind", KINDS)
def test_all_wrong_keys_stand_in_one_error(kind, tmp_path):
    """Prevents a partial load, and an error that tells the problems one after the other."""
    flat = small(kind)
    names = sorted(k for k in flat if k.endswith("weight") and flat[k].dim() == 2 and "pe" not in k.split(".")[-1])
    gone, odd, nan = names[0], names[1], names[2]
    del flat[gone]
    flat[odd] = torch.zeros(flat[odd].shape[0], flat[odd].shape[1] + 1)
    flat[nan] = flat[nan] * float("nan")
    torch.save(flat | {"decoder_x.weight": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(ValueError) as caught:
        import_weights(kind, [tmp_path / "w.pt"])
    message = str(caught.value)
    for part in ("1 unknown: decoder_x.weight", f"1 missing: {gone}", f"{odd} is", f"not finite: {nan}"):
        assert part in message
    assert "\n" not in message


SIZED = re.compile(  # keys that sizes are read from
    r"encoder\.norm\.weight|(?<!decoder\.)middle_block\.(norm1\.weight|linear)|layers\.0\.(norm\d\.weight|linear)|\.pe$|token|"
    r"latent_p|linear_1\.weight|emb_proj|embed_text\.weight|text_embedding|main|out_net|input_emb|output_net|pos_emb"
)


@pytest.mark.parametrize("kind", KINDS)
def test_one_wrong_size_is_named_and_no_other(kind, tmp_path):
    """Prevents sizes read from a wrong tensor: it would be taken for right, and all the others blamed."""
    flat, path = small(kind), tmp_path / "w.pt"

    def refused(content: dict[str, torch.Tensor]) -> str:
        torch.save(content, path)
        with pytest.raises(ValueError) as caught:
            import_weights(kind, [path])
        return str(caught.value)

    for key in filter(SIZED.search, flat):
        shape = tuple(flat[key].shape)
        assert f"keys 1 missing: {key}. Choose" in refused({k: v for k, v in flat.items() if k != key})
        for axis in range(len(shape)):
            other = tuple(n + (i == axis) for i, n in enumerate(shape))
            message = refused({**flat, key: torch.zeros(other)})
            told = f"keys 1 of another shape: {key} is {other}, needed {shape}. Choose"
            assert told in message or f"w.pt: {key} reads texts of 513 numbers" in message


@pytest.mark.parametrize("width", [0, 1, 62])
@pytest.mark.parametrize("kind", KINDS[:4])  # the evaluator has no heads that must divide its widths
def test_widths_that_cannot_be_name_the_file(kind, width, tmp_path):
    """Prevents a division by zero, and a sentence about heads that tells neither file nor kind."""
    cut = {64: width, 192: 3 * width}
    flat = {k: torch.zeros([cut.get(n, n) for n in v.shape]) for k, v in small(kind).items()}
    torch.save(flat, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=rf"w.pt is no {kind} checkpoint(: heads=4 must divide width={width}|. Of)"):
        import_weights(kind, [tmp_path / "w.pt"])


def test_features_of_another_dataset_are_named(tmp_path):
    """Prevents KIT-ML weights (251 features) from being shown on a body of 263."""
    flat = small("mld")
    flat["vae.skel_embedding.weight"] = flat["vae.skel_embedding.weight"][:, :251]
    torch.save(flat, tmp_path / "kit.ckpt")
    with pytest.raises(ValueError, match=r"vae.skel_embedding.weight is \(64, 251\), needed \(64, 263\)"):
        import_weights("mld", [tmp_path / "kit.ckpt"])


def test_a_file_of_another_kind_gets_one_short_sentence(tmp_path):
    """Prevents pages of keys where not one of them fits."""
    torch.save(small("mld"), tmp_path / "mld.ckpt")
    with pytest.raises(ValueError, match=r"no mdm checkpoint: none of its \d+ keys \(denoiser.*\) is one of") as caught:
        import_weights("mdm", [tmp_path / "mld.ckpt"])
    assert len(str(caught.value)) < 300


def test_a_foreign_text_encoder_is_told_at_once(tmp_path):
    """Prevents weights that import and then fail at the first prompt, in the middle of a network."""
    torch.save(small("mdm"), tmp_path / "mdm.pt")
    with pytest.raises(ValueError, match="reads texts of 512 numbers, distilbert-base-uncased gives 768. Give the"):
        import_weights("mdm", [tmp_path / "mdm.pt"], options=ImportOptions(text_encoder="distilbert-base-uncased"))
    with pytest.raises(ValueError, match="text_encoder='bert' is unknown. Choose one of minilm"):
        ImportOptions(text_encoder="bert")
    with pytest.raises(ValueError, match="timesteps=0 is too small"):
        ImportOptions(timesteps=0)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("mdm", "generate .* --version mdm --sampler.guidance-scale 2.5 --checkpoints"),
        ("spm", "align --base mld --rewards spm --checkpoints"),
        ("t2m-evaluator", "evaluate --evaluator t2m-evaluator --words glove/ --checkpoints"),
    ],
)
def test_the_next_step_can_be_typed_as_it_is_told(kind, told, tmp_path):
    """Prevents a command that looks for the version where it was not put, or guides MDM as if it were MLD."""
    torch.save(small(kind), tmp_path / "w.pt")
    config = ImportWeights(kind, (tmp_path / "w.pt",), checkpoints=tmp_path / "ck")
    assert re.search(told, import_weights_run(config))


def test_other_public_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder. Give the path of a downloaded"):
        import_weights("mld", [tmp_path])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        import_weights("mld", [tmp_path / "none.ckpt"])
    with pytest.raises(ValueError, match="kind='gpt' is unknown. Choose one of mld"):
        import_weights("gpt", [])
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list"):
        import_weights("mld", [tmp_path / "list.pt"])
    with pytest.raises(FileNotFoundError, match="Mean.npy"):
        read_statistics(tmp_path)
    np.save(tmp_path / "Mean.npy", np.zeros(263))
    np.save(tmp_path / "Std.npy", np.zeros(263))
    with pytest.raises(ValueError, match="positive"):
        read_statistics(tmp_path)
    odd = {"int": 3, "sparse_coo": torch.ones(2).to_sparse(), "complex64": torch.ones(2, dtype=torch.complex64)}
    for named, value in odd.items():
        with pytest.raises(ValueError, match=rf"x is a .*{named}.*, needed \(2,\)"):
            check_keys({"x": value}, {"x": torch.Size([2])}, "file")


def test_statistics_travel_with_the_checkpoint(tmp_path):
    """Prevents motions in normalised units after an import with --statistics."""
    mean, std = np.linspace(-1, 1, 263), np.linspace(0.5, 2, 263)
    np.save(tmp_path / "Mean.npy", mean)
    np.save(tmp_path / "Std.npy", std)
    flat = small("mdm")
    flat["embed_text.weight"] = torch.zeros(len(flat["embed_text.weight"]), 384)  # trained with MiniLM
    torch.save(flat, tmp_path / "w.pt")
    options = ["--statistics", str(tmp_path), "--checkpoints", str(tmp_path / "ck"), "--name", "base"]
    assert main(["import-weights", "mdm", str(tmp_path / "w.pt"), *options, "--text-encoder", "minilm"]) == 0
    model = load_diffusion(tmp_path / "ck")
    assert isinstance(model, MdmDiffusion)
    features = torch.randn(1, 40, 263)
    n = torch.tensor([40])
    np.testing.assert_allclose(model.decode(torch.zeros(1, 40, 263), n)[0, 7], mean, atol=1e-6)
    torch.testing.assert_close(model.decode(model.encode(features, n), n), features)


def test_a_reward_reads_the_text_encoder_it_was_imported_with(tmp_path):
    """Prevents captions of another encoder than the one that --text-encoder named."""
    torch.save(small("spm"), tmp_path / "spm.pt")
    asked = ["import-weights", "spm", str(tmp_path / "spm.pt"), "--checkpoints", str(tmp_path)]
    for name, options in (("sentence-t5-large", []), (other := "distilbert-base-uncased", ["--text-encoder", other])):
        assert main([*asked, "--name", name, *options]) == 0
        assert load_module(tmp_path / name).reads == name
