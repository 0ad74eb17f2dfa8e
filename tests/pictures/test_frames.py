"""Animations and pages: all frames come back, as they are shown and for as long."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageSequence
from samples import PROCESSOR, encoded, gradient

from hf_faceenh.pictures import FaceImageProcessor
from hf_faceenh.pictures.frames import page_places
from hf_faceenh.pictures.gif import Palettes

DURATIONS = [100, 200, 50, 300]


def clip(transparent=False, mode="RGB"):
    """Four frames in which a square moves; under a hole that moves too, if wanted."""
    frames = []
    for index in range(4):
        frame = Image.fromarray(gradient())
        frame.paste((250 - 40 * index, 30 * index, 200), (10 * index, 20, 10 * index + 12, 32))
        if transparent:
            alpha = Image.new("L", frame.size, 255)
            alpha.paste(0, (8 * index, 0, 8 * index + 9, 48))
            frame.putalpha(alpha)
        frames.append(frame if transparent else frame.convert(mode))
    return frames


def animation(frames, format, **options):
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)


def twice(frame):
    pixels = frame.pixels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return PROCESSOR.to_output(pixels, frame, "deep")


def doubled(data, path):
    """Writes a file with all frames at twice their size; what was read."""
    frames = list(PROCESSOR.load_frames(data))
    with PROCESSOR.frames_writer(path) as writer:
        for frame in frames:
            writer.add(twice(frame), frame.info)
    return frames


def shown(file):
    """All frames as they are shown, with how long."""
    with Image.open(file) as image:
        return [
            (np.asarray(one.convert("RGBA"), float), one.info.get("duration")) for one in ImageSequence.Iterator(image)
        ]


def check(old, new, tolerance):
    for (before, _), (after, _) in zip(shown(old), shown(new), strict=True):
        before = before.repeat(2, 0).repeat(2, 1)
        seen = before[..., 3] > 0
        assert np.abs(before - after)[seen].mean() < tolerance
        assert np.abs(before - after)[4:-4, :, 3].mean() < 6  # alpha is upscaled smoothly


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(
    ("source", "target", "tolerance"),
    [
        ("GIF", "GIF", 3),
        ("WEBP", "WEBP", 4),
        ("PNG", "PNG", 1),
        ("PNG", "GIF", 8),
        ("GIF", "WEBP", 4),
        ("WEBP", "PNG", 1),
    ],
)
def test_all_frames_come_back(source, target, tolerance, transparent, tmp_path):
    options = {"lossless": True} if source == "WEBP" else {"disposal": 2} if source == "GIF" and transparent else {}
    data = animation(clip(transparent), source, duration=DURATIONS, loop=0, **options)
    path = tmp_path / f"new.{target.lower()}"
    frames = doubled(data, path)
    assert [frame.info.duration for frame in frames] == DURATIONS and frames[0].info.plays == 0
    check(io.BytesIO(data), path, tolerance)
    assert [duration for _, duration in shown(path)] == DURATIONS
    with Image.open(path) as new:
        assert (new.format, new.size, new.n_frames, new.info["loop"]) == (target, (128, 96), 4, 0)


@pytest.mark.parametrize(
    ("source", "loop", "plays"), [("GIF", None, 1), ("GIF", 0, 0), ("GIF", 3, 4), ("WEBP", 2, 2), ("PNG", 1, 1)]
)
def test_an_animation_is_shown_as_often_as_before(source, loop, plays, tmp_path):
    data = animation(clip(), source, duration=50, **({} if loop is None else {"loop": loop}))
    assert doubled(data, tmp_path / f"same.{source.lower()}")[0].info.plays == plays
    assert Image.open(tmp_path / f"same.{source.lower()}").info.get("loop") == loop
    doubled(data, tmp_path / "new.gif")
    assert Image.open(tmp_path / "new.gif").info.get("loop") == {0: 0, 1: None}.get(plays, plays - 1)
    doubled(data, tmp_path / "new.webp")
    assert Image.open(tmp_path / "new.webp").info["loop"] == plays


def test_an_animated_png_keeps_its_still_picture(tmp_path):
    data = animation(clip(), "PNG", duration=DURATIONS[1:], default_image=True)
    frames = doubled(data, tmp_path / "new.png")
    assert [frame.info.duration for frame in frames] == [None, *DURATIONS[1:]]
    with Image.open(tmp_path / "new.png") as new:
        assert new.default_image and new.n_frames == 4
    check(io.BytesIO(data), tmp_path / "new.png", 1)


def test_avif_frames_come_back(tmp_path):
    data = animation(clip(), "AVIF", duration=DURATIONS)
    doubled(data, tmp_path / "new.avif")
    assert [duration for _, duration in shown(tmp_path / "new.avif")] == DURATIONS


def test_a_gif_does_not_flicker_where_nothing_moves():
    """Though each frame, on its own, would get other colours than the one before."""
    palettes, frames = Palettes(), [Image.fromarray(gradient()) for _ in range(4)]
    for index, frame in enumerate(frames):
        frame.paste((200, 60, 40), (10 * index, 20, 10 * index + 12, 32))
    own = [Palettes().reduced(frame).getpalette() for frame in frames]
    assert own[0] != own[1] != own[2] != own[3]
    arrays = [np.asarray(frame) for frame in frames]
    reduced = [np.asarray(palettes.reduced(frame).convert("RGB")) for frame in frames]
    for (a, b), (c, d) in zip(itertools.pairwise(arrays), itertools.pairwise(reduced), strict=True):
        still = (a == b).all(axis=2)
        assert still.mean() > 0.8 and np.array_equal(c[still], d[still])
    assert all(np.abs(a.astype(int) - b).mean() < 8 for a, b in zip(arrays, reduced, strict=True))  # of all hues


def test_greys_of_a_gif_stay(tmp_path):
    data = animation(clip(mode="L"), "GIF", duration=100)
    assert all(frame.info.grey for frame in doubled(data, tmp_path / "new.gif"))
    check(io.BytesIO(data), tmp_path / "new.gif", 0.6)


def test_a_cut_gets_colours_of_its_own():
    palettes = Palettes()
    first, other = Image.fromarray(gradient()), Image.fromarray(255 - gradient()[:, :, ::-1] // 3)
    palettes.reduced(first)
    assert np.abs(np.asarray(palettes.reduced(other).convert("RGB"), int) - np.asarray(other)).mean() < 4


def test_pages_keep_size_mode_depth_and_texts(tmp_path):
    pages = [Image.fromarray(gradient()), Image.fromarray(gradient(30, 20)).convert("L"), clip(transparent=True)[0]]
    pages.append(Image.fromarray((gradient(channels=1)[..., 0].astype(np.uint16)) * 257))
    file = io.BytesIO()
    for number, page in enumerate(pages):
        append(file, encoded(page, "TIFF", description=f"page {number}", artist="someone", dpi=(100 + number,) * 2))
    frames = doubled(file.getvalue(), tmp_path / "new.tif")
    assert [frame.info.plays for frame in frames] == [None] * 4
    with Image.open(tmp_path / "new.tif") as new:
        assert new.n_frames == 4
        for number, (page, image) in enumerate(zip(pages, ImageSequence.Iterator(new), strict=True)):
            assert image.size == (2 * page.width, 2 * page.height) and image.mode == page.mode
            assert image.tag_v2[270] == f"page {number}" and image.tag_v2[315] == "someone"
            assert image.tag_v2[282] == pytest.approx(2 * (100 + number))
            first = np.asarray(image)[::2, ::2].astype(float)
            seen = np.asarray(page.getchannel("A")) > 250 if page.mode == "RGBA" else slice(None)
            assert np.abs(first - np.asarray(page, float))[seen].mean() < (300 if page.mode == "I;16" else 2)


def append(file, single):
    """One more page, as Pillow appends it."""
    from PIL.TiffImagePlugin import AppendingTiffWriter

    file.seek(0)
    writer = AppendingTiffWriter(file)
    writer.write(single)
    writer.newFrame()


def test_exif_of_a_later_page_is_its_own(tmp_path):
    from PIL import ExifTags

    def page(number):
        exif = Image.Exif()
        exif[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: f"190{number}:01:01 00:00:00"}
        return PROCESSOR.load(encoded(Image.fromarray(gradient()), "JPEG", exif=exif))

    with PROCESSOR.frames_writer(tmp_path / "new.tif") as writer:
        for number in range(3):
            loaded = page(number)
            writer.add(twice(loaded), loaded.info)
    for number, frame in enumerate(PROCESSOR.load_frames(tmp_path / "new.tif")):
        assert f"190{number}:01:01".encode() in frame.info.exif


def test_thumbnails_and_masks_are_no_pages():
    file = io.BytesIO()
    for kind in (0, 1, 4, 2):
        append(file, encoded(Image.fromarray(gradient()), "TIFF", tiffinfo={254: kind}))
    assert len(page_places(file.getvalue())) == 2 == len(PROCESSOR.load_frames(file.getvalue()))


def test_other_pictures_are_one_frame(tmp_path):
    photo = Image.fromarray(gradient())
    sequence = encoded(photo, "MPO", save_all=True, append_images=[photo])
    for picture in (
        encoded(photo, "JPEG"),
        encoded(photo, "TIFF"),
        encoded(photo, "GIF"),
        sequence,
        photo,
        gradient(),
    ):
        frames = PROCESSOR.load_frames(picture)
        assert len(frames) == 1 == len(list(frames)) and next(iter(frames)).info.plays is None
    doubled(encoded(photo, "JPEG"), tmp_path / "one.jpg")
    loaded = PROCESSOR.load(encoded(photo, "JPEG"))
    PROCESSOR.save(twice(loaded), tmp_path / "two.jpg", loaded.info)
    assert (tmp_path / "one.jpg").read_bytes() == (tmp_path / "two.jpg").read_bytes()


def test_damage_ends_the_frames_with_a_remark():
    data = animation(clip(), "GIF", duration=100)
    frames = PROCESSOR.load_frames(data[: len(data) * 3 // 4])
    found = list(frames)
    assert 0 < len(found) < 4
    if len(frames) > len(found):
        assert f"only {len(found)} of {len(frames)} frames could be read" in frames.remark
    file = io.BytesIO()
    for _ in range(3):
        append(file, encoded(Image.fromarray(gradient()), "TIFF", compression="tiff_adobe_deflate"))
    places = page_places(file.getvalue())
    data = bytearray(file.getvalue())
    with Image.open(io.BytesIO(bytes(data))) as image:
        image.seek(1)
        start = image.tag_v2[273][0]
    data[start : start + 60] = bytes(60)
    frames = PROCESSOR.load_frames(bytes(data))
    assert len(places) == 3 and len(list(frames)) == 1
    assert frames.remark.startswith("only 1 of 3 frames could be read: The picture, page 2 is damaged")


def test_all_frames_together_have_a_limit():
    small = FaceImageProcessor(max_pixels=64 * 48 * 3)
    with pytest.raises(ValueError, match="has 4 frames of 64×48 px; at most"):
        small.load_frames(animation(clip(), "WEBP"))
    file = io.BytesIO()
    for _ in range(4):
        append(file, encoded(Image.fromarray(gradient()), "TIFF"))
    assert len(list(small.load_frames(file.getvalue()))) == 4
    with pytest.raises(ValueError, match="has 4 pages with 0 megapixels in all"):
        FaceImageProcessor(max_pixels=64 * 48 // 5).load_frames(file.getvalue())


def test_which_formats_hold_frames(tmp_path):
    animated = next(iter(PROCESSOR.load_frames(animation(clip(), "GIF")))).info
    page = PROCESSOR.load(encoded(Image.fromarray(gradient()), "TIFF")).info
    for info, holding in ((animated, "gif webp png avif tif"), (page, "tif")):
        for ending in "gif webp png avif tif jpg bmp".split():
            assert PROCESSOR.holds_frames(tmp_path / f"new.{ending}", info) == (ending in holding.split())


def test_nothing_is_left_of_a_file_that_was_given_up(tmp_path):
    for name in ("new.gif", "new.tif"):
        with pytest.raises(KeyboardInterrupt):
            with PROCESSOR.frames_writer(tmp_path / name) as writer:
                loaded = PROCESSOR.load(gradient())
                writer.add(twice(loaded), loaded.info)
                raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
