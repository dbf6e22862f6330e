"""The command line: `python -m core COMMAND --help`. Each command imports what it needs, so --help stays quick."""

from __future__ import annotations

import importlib
import sys

from core.commands.console import exit_code

COMMANDS = {
    "prepare": "turn a motion dataset into one compact archive",
    "train": "train vae, base, mdm, reward, latent-reward (noise-aware) or judge",
    "refine": "sharpen a reward on its own retrieval failures (SPL), and on votes if there are any",
    "align": "fine-tune the base model on the reward: EasyTune, DRaFT, AlignProp, DRTune, ReFL and more",
    "align-report": "reward and judge of an alignment, drawn together; the card tells where they part",
    "align-average": "one model out of several alignments: the mean of their weights",
    "evaluate": "measure models with the judge and physical metrics",
    "generate": "make motions from prompts and write them to files",
    "import-weights": "turn published weights (mld, motionlcm, mdm, spm, t2m-evaluator) into a checkpoint",
    "export": "write motions as GLB, BVH, AMASS npz, npy or MP4, or the votes as a preference dataset",
    "import-preferences": "add an exported preference dataset to a store",
    "live": "learn from the votes and make a new aligned version",
    "report": "what the votes say: win rates, ranking, agreement, consistency, bias",
    "build-body": "make the default body from the CC0 MakeHuman data",
}
RESUMES = ("train", "refine", "align", "align-report")  # go on after an interruption


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Bad input ends in one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: python -m core COMMAND [options]; `python -m core COMMAND --help` tells the options\n")
        print("\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()))
        return 0
    if arguments[0] not in COMMANDS:
        print(f"command {arguments[0]!r} is unknown. Choose one of: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    module = importlib.import_module(f"core.commands.{arguments[0].replace('-', '_')}")
    return exit_code(lambda: module.main(arguments[1:]), arguments[0] in RESUMES)


if __name__ == "__main__":
    sys.exit(main())
