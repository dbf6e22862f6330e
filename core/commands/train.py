"""`python -m core train {vae,base,mdm,reward,latent-reward,judge}`; killed runs go on where they left off."""

from __future__ import annotations

import shlex

import tyro

from core.align.processes import leave_together
from core.commands.console import ProgressLine
from core.train.run import (
    TrainBase,
    TrainJudge,
    TrainLatentReward,
    TrainMdm,
    TrainReward,
    TrainVae,
    train_base,
    train_judge,
    train_latent_reward,
    train_mdm,
    train_reward,
    train_vae,
)
from core.train.run_record import check_target, set_aside


def main(arguments: list[str]) -> None:
    """Parse and run."""
    choices = {
        "vae": TrainVae,
        "base": TrainBase,
        "mdm": TrainMdm,
        "reward": TrainReward,
        "latent-reward": TrainLatentReward,
        "judge": TrainJudge,
    }
    config = tyro.extras.subcommand_cli_from_dict(choices, args=arguments, prog="python -m core train")
    run = {
        TrainVae: train_vae,
        TrainBase: train_base,
        TrainMdm: train_mdm,
        TrainReward: train_reward,
        TrainLatentReward: train_latent_reward,
        TrainJudge: train_judge,
    }
    name = getattr(config, "name", arguments[0])
    check_target(name, ())
    set_aside(config.data.checkpoints / name, made_here=(config.data.runs / name / "state.pt").exists())
    command = shlex.join(["python", "-m", "core", "train", *arguments])
    run[type(config)](config, ProgressLine("training"), command)  # type: ignore[operator]
    leave_together()
