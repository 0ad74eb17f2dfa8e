"""How the page looks: its theme, the photograph with faces to click on, and the pairs of before and after."""

import html

import gradio as gr
from pictures import Result, duration

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

# Gradio fills these in in the browser: `value` are the chosen faces, `boxes` all of them in percent of the picture.
CHOOSE_TEMPLATE = """
<p>${boxes.length ? "Click the faces you want to have enhanced." : "We found no face in this picture."}</p>
<div class="choose"><img src="${picture}" alt="Your picture, with a frame on each face">
${boxes.map((box, i) => `<button type="button" data-face="${i}" aria-pressed="${value.includes(i)}"
  aria-label="Face ${i + 1}" style="left:${box.left}%;top:${box.top}%;width:${box.width}%;height:${box.height}%"
  ><span>${i + 1}${value.includes(i) ? " ✓" : ""}</span></button>`).join("")}
</div>"""
CHOOSE_SCRIPT = """
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  const face = Number(button.dataset.face);
  const chosen = props.value;
  props.value = chosen.includes(face) ? chosen.filter(one => one !== face) : [...chosen, face];
  setTimeout(() => element.querySelector(`[data-face="${face}"]`)?.focus(), 50);
});"""


def in_percent(box: tuple[float, float, float, float], size: tuple[int, int]) -> dict[str, float]:
    """x1, y1, x2, y2 in px, as `CHOOSE_TEMPLATE` wants it."""
    (x1, y1, x2, y2), (width, height) = box, size
    numbers = {"left": x1 / width, "top": y1 / height, "width": (x2 - x1) / width, "height": (y2 - y1) / height}
    return {name: round(100 * number, 3) for name, number in numbers.items()}


def show_faces(result: Result) -> str:
    """Pairs of before and after, as HTML."""
    figures = []
    for number, face in enumerate(result.faces[:SHOWN_FACES], 1):
        after = f'<div class="none">{face.left_alone}</div>'
        if face.after:
            after = f'<img src="{face.after}" alt="Face {number}, enhanced">'
        likeness = f"<p>After: {face.likeness}.</p>" if face.likeness else ""
        figures.append(
            f'<figure><div class="pair"><img src="{face.before}" alt="Face {number} as it was">{after}</div>'
            f"{likeness}<figcaption>Face {number}: found with {face.score:.0%} certainty</figcaption></figure>"
        )
    if not figures:
        return "<p>We found no face, so only the picture as a whole was sharpened.</p>"
    more = f"<p>And {len(result.faces) - SHOWN_FACES} more.</p>" if len(result.faces) > SHOWN_FACES else ""
    summary = f"{result.enhanced} of {len(result.faces)} enhanced in {duration(result.seconds)}"
    return f'<h3>Faces: {summary}</h3><div class="faces">{"".join(figures)}</div>{more}'


def show_records(records: list[dict]) -> str:
    """What became of each picture of several, as HTML."""
    rows = "".join(
        f"<tr><td>{html.escape(record['file'])}</td><td>{record['enhanced']} of {record['faces']}</td>"
        f"<td>{html.escape(record['remark']) or 'Done.'}</td></tr>"
        for record in records
    )
    return f'<table class="records"><tr><th>Picture</th><th>Faces enhanced</th><th>Remark</th></tr>{rows}</table>'
