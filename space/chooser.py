"""Choosing faces: a frame on each, or, where these would be too small or cover others, a grid of thumbnails."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image
from previews import data_url

Box = tuple[float, float, float, float]  # x1, y1, x2, y2

SHOWN = 340  # px, the width of the picture on the page, and on a phone
SMALLEST = 24  # px on the page: what a finger hits
MOST_FRAMES = 8
LABEL = (40, 20)  # px on the page, with number and tick
THUMBNAIL = 96  # px
AROUND = 0.3  # of the box's side, that a thumbnail shows on either side


def numbered(boxes: Sequence[Box]) -> list[int]:
    """The indices of the faces as one reads: row by row, from left to right."""
    middle = {index: ((x1 + x2) / 2, (y1 + y2) / 2, y2 - y1) for index, (x1, y1, x2, y2) in enumerate(boxes)}
    rows: list[list[int]] = []
    for index in sorted(middle, key=lambda index: middle[index][1]):
        _, y, height = middle[index]
        if rows and y - middle[rows[-1][0]][1] < 0.75 * max(height, middle[rows[-1][0]][2]):
            rows[-1].append(index)
        else:
            rows.append([index])
    return [index for row in rows for index in sorted(row, key=lambda index: middle[index][0])]


@dataclass(frozen=True, slots=True)
class Chooser:
    """What `TEMPLATE` shows: `picture` is empty for a grid. Lengths are in percent of the picture."""

    picture: str
    faces: list[dict]


def chooser(image: Image.Image, boxes: Sequence[Box]) -> Chooser:
    """Frames or thumbnails for the faces of a picture.

    Args:
        image: the picture, upright.
        boxes: of its faces, in px.
    """
    order = numbered(boxes)
    scale = SHOWN / image.width
    shown = [tuple(edge * scale for edge in box) for box in boxes]
    labels = _labels([shown[index] for index in order], image.height * scale)
    smallest = min((min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in shown), default=SMALLEST)
    if len(boxes) > MOST_FRAMES or smallest < SMALLEST or labels is None:
        faces = [
            {"index": index, "number": number, "thumbnail": _thumbnail(image, boxes[index])}
            for number, index in enumerate(order, 1)
        ]
        return Chooser("", faces)
    height = image.height * scale
    faces = [
        {"index": index, "number": number, "frame": _css(shown[index], height), "label": _css(label, height)}
        for number, (index, label) in enumerate(zip(order, labels, strict=True), 1)
    ]
    faces.sort(key=lambda face: -_area(shown[face["index"]]))  # smaller ones lie on top
    return Chooser(data_url(image, largest=1.0), faces)


def _labels(boxes: Sequence[Box], height: float) -> list[Box] | None:
    """A place for each face's label where it covers no face; `None` if one has none. All in px on the page."""
    placed: list[Box] = []
    for x1, y1, x2, y2 in boxes:
        corners = [(x, y) for y in (y1 - LABEL[1], y2) for x in (x1, x2 - LABEL[0])]
        corners += [(x, y) for x in (x2, x1 - LABEL[0]) for y in (y1, y2 - LABEL[1])]
        places = [(x, y, x + LABEL[0], y + LABEL[1]) for x, y in corners]
        free = (place for place in places if _inside(place, height) and not _covers(place, [*boxes, *placed]))
        if (place := next(free, None)) is None:
            return None
        placed.append(place)
    return placed


def _inside(box: Box, height: float) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= SHOWN and box[3] <= height


def _covers(box: Box, others: Iterable[Box]) -> bool:
    return any(box[0] < x2 and box[2] > x1 and box[1] < y2 and box[3] > y1 for x1, y1, x2, y2 in others)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _css(box: Box, height: float) -> str:
    x1, y1, x2, y2 = box
    across, down = 100 / SHOWN, 100 / height
    return (
        f"left:{x1 * across:.3f}%;top:{y1 * down:.3f}%;width:{(x2 - x1) * across:.3f}%;height:{(y2 - y1) * down:.3f}%"
    )


def _thumbnail(image: Image.Image, box: Box) -> str:
    x1, y1, x2, y2 = box
    half, x, y = (0.5 + AROUND) * max(x2 - x1, y2 - y1), (x1 + x2) / 2, (y1 + y2) / 2
    square = tuple(round(edge) for edge in (x - half, y - half, x + half, y + half))
    return data_url(image.crop(square).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC))


# Gradio fills these in in the browser: `value` are the indices of the chosen faces.
TEMPLATE = """
<p>${faces.length ? "Click the faces you want to have enhanced." : "We found no face in this picture."}</p>
<div class="${picture ? "choose" : "thumbnails"}">
${picture ? `<img src="${picture}" alt="Your picture, with a frame on each face">` : ""}
${faces.map(face => {
  const chosen = value.includes(face.index), tick = chosen ? " ✓" : "";
  const inside = picture ? "" : `<img src="${face.thumbnail}" alt=""><span>${face.number}${tick}</span>`;
  return `<button type="button" data-face="${face.index}" aria-pressed="${chosen}" aria-label="Face ${face.number}"
    style="${face.frame || ""}">${inside}</button>`
    + (picture ? `<span class="${chosen ? "chosen" : ""}" style="${face.label}">${face.number}${tick}</span>` : "");
}).join("")}
</div>"""
SCRIPT = """
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  const face = Number(button.dataset.face);
  const chosen = props.value;
  props.value = chosen.includes(face) ? chosen.filter(one => one !== face) : [...chosen, face];
  setTimeout(() => element.querySelector(`[data-face="${face}"]`)?.focus(), 50);
});"""
