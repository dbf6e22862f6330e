"""Colours and type of the page. Calm greys; each side has its own."""

from __future__ import annotations

from gradio.themes.base import Base
from gradio.themes.utils import colors, sizes
from gradio.themes.utils.fonts import LocalFont


def arena_theme() -> Base:
    """Neutral greys, a teal accent that favours neither side, fonts served by the page itself.

    Weight 700 stands in for 600: the semi-bold files that come with Gradio hold no Latin letters.
    """
    return Base(
        primary_hue=colors.teal,
        secondary_hue=colors.teal,
        neutral_hue=colors.slate,
        radius_size=sizes.radius_lg,
        spacing_size=sizes.spacing_md,
        text_size=sizes.text_md,
        font=(LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=(LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="#0d1117",
        background_fill_primary="white",
        background_fill_primary_dark="#151b23",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="#0d1117",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_label_background_fill="transparent",
        block_label_border_width="0px",
        block_title_text_weight="600",
        block_title_text_size="*text_sm",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        color_accent="*primary_700",  # style.css has the one for dark pages
        border_color_primary="*neutral_200",
        border_color_primary_dark="#2a323d",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        input_background_fill="white",
        input_background_fill_dark="#0d1117",
        input_border_width="1px",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="#1c242e",
        button_secondary_background_fill_hover_dark="#26303c",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#333d4a",
        button_border_width="1px",
        button_large_text_weight="600",
        button_transition="background-color 120ms ease, border-color 120ms ease",
        slider_color="*primary_600",
        slider_color_dark="*primary_500",
    )
