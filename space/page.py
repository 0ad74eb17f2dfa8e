"""How the page looks: its theme, what went wrong, and the pairs of before and after."""

import html

import gradio as gr
from chooser import numbered
from pace import duration
from pictures import Result

SHOWN_FACES = 24

# Calm, with the system's own fonts (nothing is fetched from elsewhere), and with enough contrast to read.
THEME = gr.themes.Soft(primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"]).set(
    body_background_fill="*neutral_50",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    color_accent="*primary_700",
    link_text_color="*primary_700",
    slider_color="*primary_700",
    block_label_background_fill="*neutral_100",
    block_label_background_fill_dark="*neutral_700",
    block_label_text_color="*neutral_700",
    block_title_background_fill="none",
    block_title_background_fill_dark="none",
    block_title_padding="0",
    block_title_text_color="*neutral_700",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
    checkbox_label_background_fill_selected="*primary_700",
    checkbox_label_background_fill_selected_dark="*primary_700",
)

HONESTY = "What is gone from a picture is guessed, not recovered: a sharp face may not be quite that person's."


def line(error: gr.Error) -> str:
    """What an error says, as plain text."""
    return html.unescape(error.message)


def show_message(line: str) -> str:
    """What went wrong, where the result would be."""
    return f'<p class="message" role="alert">{html.escape(line, quote=False)}</p>'


def show_faces(result: Result) -> str:
    """Pairs of before and after, as HTML; each opens at full size."""
    figures = []
    for number, index in enumerate(numbered([face.box for face in result.faces])[:SHOWN_FACES], 1):
        (before, after), face = result.pairs[index], result.faces[index]
        said = face.left_alone or (face.likeness and f"{face.likeness}.")
        figures.append(
            f'<figure><button type="button" class="pair" aria-label="Face {number}, at full size">'
            f'<span data-side="Before"><img src="{before}" alt="Face {number} as it was"></span>'
            f'<span data-side="After"><img src="{after}" alt="Face {number} in the result"></span></button>'
            f"<figcaption>Face {number}{': ' + said if said else ''}</figcaption></figure>"
        )
    honesty = f'<p class="honesty">{HONESTY}</p>' if result.enhanced else ""
    if not figures:
        return "<p>We found no face, so only the picture as a whole was sharpened.</p>"
    more = f"<p>And {len(result.faces) - SHOWN_FACES} more.</p>" if len(result.faces) > SHOWN_FACES else ""
    summary = f"{result.enhanced} of {len(result.faces)} enhanced in {duration(result.seconds)}"
    return f'{honesty}<h3>Faces: {summary}</h3><div class="faces">{"".join(figures)}</div>{more}'


def show_records(records: list[dict]) -> str:
    """What became of each picture of several, as HTML."""
    rows = "".join(
        f"<tr><td>{html.escape(record['file'])}</td><td>{record['enhanced']} of {record['faces']}</td>"
        f"<td>{html.escape(record['remark']) or 'Done.'}</td></tr>"
        for record in records
    )
    return f'<table class="records"><tr><th>Picture</th><th>Faces enhanced</th><th>Remark</th></tr>{rows}</table>'
