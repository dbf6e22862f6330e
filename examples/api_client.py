"""Use a running arena from a script: generate a pair, export it, vote, read the statistics.

Start the arena with `python app.py`, then run `python examples/api_client.py "a person bows"`. It needs the package
gradio_client alone. What each endpoint takes and gives: `Client(URL).view_api()`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from gradio_client import Client


def main(arguments: list[str] | None = None) -> int:
    """One pair from prompt to vote; the exit code."""
    parser = argparse.ArgumentParser(description="A pair of motions from a running EasyTune Arena.")
    parser.add_argument("prompt", nargs="?", default="a person waves with the left hand")
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="address of the arena")
    parser.add_argument("--out", type=Path, default=Path("outputs/api"), help="folder for the two files")
    parser.add_argument("--kind", default="glb", help="mp4, glb, bvh, npz, npy or joints")
    parser.add_argument("--annotator", default="script", help="the name that the vote is signed with")
    options = parser.parse_args(arguments)

    client = Client(options.url, verbose=False)
    print("status:", client.predict(api_name="/status"))
    pair = client.predict(prompt=options.prompt, api_name="/generate")
    print("pair:", pair)
    options.out.mkdir(parents=True, exist_ok=True)
    for side in ("left", "right"):
        made = client.predict(pair_id=pair["pair_id"], side=side, kind=options.kind, api_name="/export")
        print("wrote", shutil.copy(made, options.out))
    # A person would watch both files now. The names of the models come with the answer.
    vote = client.predict(pair_id=pair["pair_id"], verdict="tie", annotator=options.annotator, api_name="/vote")
    print("vote:", vote)
    print("win rates:", client.predict(api_name="/report")["versions"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
