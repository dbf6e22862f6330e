"""The row of answers under a pair, and what may be said beyond it: criteria and a comment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.preference.details import MAX_COMMENT_LETTERS

CRITERIA = ("text match", "realism", "style")  # offered outside of studies
_BUTTONS = (  # verdict, label, class; A's button stands under A, B's under B
    ("left", "A is better", "vote-a"),
    ("tie", "Tie", "vote-mid"),
    ("both_bad", "Both bad", "vote-mid"),
    ("skip", "Skip", "vote-skip"),
    ("right", "B is better", "vote-b"),
)
_SIDES = [("A", "left"), ("same", "tie"), ("B", "right")]
ANSWER_JS = "(...asked) => arena.answer(asked)"  # app/page.js: puts what was Watched last
MAX_RESPONSE_S = 24 * 3600.0


def vote_buttons(interactive: bool = False) -> dict[str, gr.Button]:
    """Verdict -> button, in a row."""
    with gr.Row(elem_id="votes"):
        return {
            verdict: gr.Button(
                label, interactive=interactive, min_width=60, elem_classes=style, elem_id=f"vote-{verdict}"
            )
            for verdict, label, style in _BUTTONS
        }


@dataclass(frozen=True)
class Watched:
    """What the browser saw of the pair on the screen."""

    nonce: str | None = None  # of the last pair drawn, see core.render.player_pack
    response_s: float | None = None  # since its first frame
    plays: int | None = None  # how often it was watched to the end

    @classmethod
    def of(cls, sent: Any) -> Watched:
        """From what arena.answer sent; whatever is no such thing becomes None."""
        sent = sent if isinstance(sent, dict) else {}
        nonce, seconds, plays = sent.get("nonce"), sent.get("response_s"), sent.get("plays")
        fits = isinstance(seconds, int | float) and 0 <= seconds <= MAX_RESPONSE_S
        return cls(
            nonce if isinstance(nonce, str) else None,
            float(seconds) if fits else None,
            plays if isinstance(plays, int) and plays >= 0 else None,
        )

    def of_another(self, nonce: str | None) -> bool:
        """Whether the answer was meant for the pair before; it is not where none could be drawn and no nonce comes."""
        return self.nonce is not None and self.nonce != nonce


class Details:
    """One question for each criterion, and a field for a comment. Build inside a gr.Blocks context."""

    def __init__(self, criteria: Sequence[str], comment: bool) -> None:
        with gr.Row(elem_id="details", visible=bool(criteria) or comment):
            self.radios = {
                name: gr.Radio(_SIDES, label=name.capitalize(), min_width=100, elem_classes="criterion")
                for name in criteria
            }
            self.comment = gr.Textbox(
                label="Comment",
                placeholder="Comment (optional)",
                show_label=False,
                max_length=MAX_COMMENT_LETTERS,
                lines=1,
                max_lines=4,
                visible=comment,
                elem_id="comment",
            )
        self.inputs: list[Any] = [*self.radios.values(), self.comment]

    def read(self, values: Sequence[Any]) -> tuple[dict[str, str], str]:
        """Criteria answered and comment, from the values of `inputs`."""
        *answers, comment = values
        given = {name: answer for name, answer in zip(self.radios, answers, strict=True) if answer}
        return given, (comment or "").strip()

    def cleared(self) -> dict[Any, Any]:
        """Updates that empty every field."""
        return {**dict.fromkeys(self.radios.values()), self.comment: ""}
