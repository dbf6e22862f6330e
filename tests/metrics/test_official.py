"""The field's protocol: word vectors, cuts and pools as published, and one command from files to the paper's table."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from core.__main__ import main
from core.data.captioned import CaptionedMotion
from core.metrics.official import Evaluator, OfficialConfig, draw, evaluate_officially, multimodality, paper_table
from core.metrics.official_words import MAX_WORDS, PARTS, load_word_vectors
from core.models.checkpoint import save_checkpoint
from core.models.mdm import MdmConfig
from core.models.mdm_diffusion import MdmDiffusion, MdmDiffusionConfig
from core.models.tm2t import T2mEvaluatorConfig, T2mJudge

FIXTURES = Path(__file__).parents[1] / "fixtures"
WORDS = ["unk", "sos", "eos", "a", "man", "walk", "left", "wave"]
SMALL = T2mEvaluatorConfig(movement_width=16, motion_width=16, text_width=16, embedding_width=8)


def glove(folder: Path) -> Path:
    folder.mkdir()
    np.save(folder / "our_vab_data.npy", np.arange(len(WORDS), dtype=np.float64)[:, None] * np.ones(300))
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps({word: i for i, word in enumerate(WORDS)}))
    return folder


def motions(count: int = 40) -> list[CaptionedMotion]:
    """Motion i is the number i throughout, and so is its caption."""
    return [
        CaptionedMotion(
            f"{i}", np.full((41 + i, 263), float(i), np.float32), (f"{i} a", f"{i} b"), (f"{i}/A", f"{i}/B")
        )
        for i in range(count)
    ]


def test_words_are_read_as_published(tmp_path):
    """Prevents other parts of speech, marks or cuts than those the evaluator was trained on."""
    words, parts, lengths = load_word_vectors(glove(tmp_path / "glove")).encode(
        ["a/DET man/NOUN walk/VERB left/ADJ xyzzy/NOUN a/ODD", " ".join(["man/NOUN"] * 30)]
    )
    assert words.shape == (2, MAX_WORDS + 2, 300) and parts.shape == (2, MAX_WORDS + 2, 15)
    assert lengths.tolist() == [8, 22]
    assert words[0, :9, 0].tolist() == [1, 3, 4, 5, 6, 0, 3, 2, 0]  # sos a man walk left unk a eos, then unk
    named = [PARTS[i] for i in parts[0].argmax(-1)[:9]]
    assert named == ["OTHER", "DET", "NOUN", "Act", "Loc", "OTHER", "OTHER", "OTHER", "OTHER"]
    assert words[1, [0, 20, 21], 0].tolist() == [1, 4, 2] and parts.sum(-1).min() == parts.sum(-1).max() == 1


def test_word_files_that_ask_for_code_are_refused(tmp_path):
    """Prevents a downloaded vocabulary from running a program."""

    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    folder = glove(tmp_path / "glove")
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps({"unk": Runs()}))
    with pytest.raises(ValueError, match="refused.*Nothing in it was run"):
        load_word_vectors(folder)
    assert not (tmp_path / "ran").exists()
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps({"unk": 99}))
    with pytest.raises(ValueError, match="does not index the rows"):
        load_word_vectors(folder)
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps({"unk": 0}))
    with pytest.raises(ValueError, match="lacks the words sos, eos"):
        load_word_vectors(folder)
    with pytest.raises(FileNotFoundError, match="our_vab_data.npy is missing"):
        load_word_vectors(tmp_path)


def test_an_embedding_does_not_depend_on_its_batch():
    """Prevents padding that the convolutions read: published motions end in zeros after normalising."""
    torch.manual_seed(0)
    judge = T2mJudge(SMALL).eval()
    judge.feature_mean.fill_(3.0)
    features = torch.randn(2, 60, 263)
    alone = judge.embed_motion(features[:1, :41], torch.tensor([41]))
    garbage = features.clone()
    garbage[0, 40:] = 99.0
    torch.testing.assert_close(judge.embed_motion(garbage, torch.tensor([41, 60]))[:1], alone)


def test_draws_are_cut_to_whole_movements():
    """Prevents a motion that meets another one's caption, and lengths that the evaluator rounds by itself."""
    drawn = draw(motions(), np.random.default_rng(0))
    whole = [len(m.features) // 4 * 4 for m in motions()]
    order = [int(m[0, 0]) for m in drawn.motions]
    assert sorted(order) == list(range(40)) != order
    assert [c.split()[0] for c in drawn.captions] == [t.split("/")[0] for t in drawn.tokens] == [str(i) for i in order]
    shorter = [whole[i] - n for i, n in zip(order, drawn.frames, strict=True)]
    assert set(shorter) == {0, 4} and 5 < sum(s == 4 for s in shorter) < 22  # a third
    assert {c[-1] for c in drawn.captions} == {"a", "b"}


def test_rows_are_those_of_the_papers():
    """Perfect takes score as real motions do, shuffled ones by chance; the interval is 1.96 s / sqrt(n)."""
    numbers = Evaluator(
        motion=lambda made: np.stack([np.full(4, m[0, 0]) for m in made]),
        text=lambda tokens: np.stack([np.full(4, float(t.split("/")[0])) for t in tokens]),
    )

    def perfect(captions, frames, seed):
        return [np.full((n, 263), float(c.split()[0]), np.float32) for c, n in zip(captions, frames, strict=True)]

    def shuffled(captions, frames, seed):
        return [perfect(captions, frames, seed)[i] for i in np.random.default_rng(seed).permutation(len(captions))]

    config = OfficialConfig(repeats=3, texts=5, takes=4, pairs=2)
    report = evaluate_officially({"perfect": perfect, "shuffled": shuffled}, numbers, motions(), config)
    rows = {name: {k: v.mean for k, v in cells.items()} for name, cells in report.rows.items()}
    for name in ("real", "perfect"):
        assert rows[name]["r_precision_1"] == 1.0 and rows[name]["mm_dist"] == 0.0
        assert rows[name]["fid"] == pytest.approx(0.0, abs=1e-6)
    assert rows["shuffled"]["r_precision_1"] < 0.3 and rows["shuffled"]["mm_dist"] > 5
    assert (
        rows["perfect"]["multimodality"] == 0.0 < rows["shuffled"]["multimodality"]
        and "multimodality" not in rows["real"]
    )
    alone = evaluate_officially({"shuffled": shuffled}, numbers, motions(), config).rows["shuffled"]
    assert alone == report.rows["shuffled"]  # whatever was measured before it
    assert paper_table(report).startswith(
        "| method | R@1 ↑ | R@2 ↑ | R@3 ↑ | FID ↓ | MM-Dist ↓ | Diversity → | MModality ↑ |"
    )
    takes = np.array([[[0.0], [1.0]], [[5.0], [6.0]]])
    assert multimodality(takes, np.random.default_rng(0), 2) in (0.0, 1.0)
    with pytest.raises(ValueError, match="fewer than the pool of 32"):
        evaluate_officially({}, numbers, motions(31), config)
    untagged = [*motions(39), CaptionedMotion("x", np.zeros((40, 263)), ("a",))]
    with pytest.raises(ValueError, match=r"1 motions \(x ...\) have captions without word/TAG tokens"):
        evaluate_officially({}, numbers, untagged, config)
    with pytest.raises(ValueError, match="pairs=11"):
        OfficialConfig(takes=10, pairs=11)


def humanml3d(folder: Path, count: int) -> Path:
    """A folder in the layout of the dataset, all of it in the test split."""
    rng = np.random.default_rng(0)
    for name in ("new_joint_vecs", "texts"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        np.save(folder / "new_joint_vecs" / f"{i:06}.npy", rng.normal(size=(40 + i, 263)).astype(np.float32))
        (folder / "texts" / f"{i:06}.txt").write_text("a man walks left.#a/DET man/NOUN walk/VERB left/ADJ#0.0#0.0\n")
    for split in ("train", "val", "test"):
        (folder / f"{split}.txt").write_text("\n".join(f"{i:06}" for i in range(count)) if split == "test" else "")
    for name, value in (("Mean", 0.0), ("Std", 1.0)):
        np.save(folder / f"{name}.npy", np.full(263, value, np.float32))
    return folder


def test_one_command_prints_the_papers_table(tmp_path, capsys):
    """From a dataset folder, finest.tar, its statistics and GloVe to the rows of the table."""
    data, checkpoints = humanml3d(tmp_path / "h3d", 33), tmp_path / "ck"
    published: dict = {"epoch": 1}
    for key, value in T2mJudge(SMALL).evaluator.state_dict().items():
        network, name = key.split(".", 1)
        published.setdefault(network, {})[name] = value
    torch.save(published, tmp_path / "finest.tar")
    network = MdmConfig(width=16, ff_width=16, layers=1, heads=2, text_width=384, mask_frames=True, text_tokens=True)
    save_checkpoint(checkpoints / "mine", MdmDiffusion(MdmDiffusionConfig(network)), {})
    options = ["--statistics", str(data), "--checkpoints", str(checkpoints)]
    assert main(["import-weights", "t2m-evaluator", str(tmp_path / "finest.tar"), *options]) == 0
    assert main(["prepare", "humanml3d", str(data), "--out", str(tmp_path / "h3d.npz")]) == 0
    words = str(glove(tmp_path / "glove"))
    command = ["evaluate", "--evaluator", "t2m-evaluator", "--versions", "mine", "--words", words]
    command += ["--checkpoints", str(checkpoints), "--out", str(tmp_path / "out"), "--archive"]
    counts = ["--official.repeats", "2", "--official.texts", "2", "--official.takes", "2", "--official.pairs", "2"]
    assert main([*command, str(tmp_path / "h3d.npz"), *counts, "--sampler.steps", "2"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| method", "| ---", "| real", "| mine"]
    assert (tmp_path / "out" / "test-t2m-evaluator.json").is_file()
    assert main([*command, str(tmp_path / "none.npz")]) == 1
    assert "has no captions of its own" in capsys.readouterr().err
