"""Pictures without colours are told from pale ones, and keep their one tone through the whole pipeline."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from samples import encoded
from skimage.data import astronaut
from tiny import tiny_enhancer, tiny_pipeline

from hf_faceenh import FaceEnhancer
from hf_faceenh.models.face_network import FaceEnhancerOutput
from hf_faceenh.pictures import FaceImageProcessor
from hf_faceenh.tones import as_grey, find_tone, luminance

PHOTO = astronaut()  # [512, 512, 3] uint8
GREY = PHOTO @ np.float32([0.299, 0.587, 0.114])  # [512, 512]
SEPIA = np.float32([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]]).sum(axis=1)


def through(levels, *channels):
    """A tone as R, G and B at some luminances."""
    return np.stack([np.interp(GREY, levels, channel) for channel in channels], axis=-1)


TONES = {
    "grey": GREY[..., None].repeat(3, axis=2),
    "sepia": GREY[..., None] * SEPIA,
    "cyanotype": through([0, 110, 255], [5, 70, 245], [30, 120, 248], [70, 170, 240]),
    "selenium": through([0, 90, 255], [30, 92, 250], [18, 80, 246], [26, 90, 240]),
}


def as_picture(levels):
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def noisy(levels, deviation=4):
    """As a scanner's colour channels differ."""
    return levels + np.random.default_rng(0).normal(0, deviation, levels.shape)


def as_jpeg(image, quality):
    return Image.open(io.BytesIO(encoded(image, "JPEG", quality=quality)))


def tone_of(picture):
    loaded = FaceImageProcessor().load(picture)
    return find_tone(loaded.pixels, loaded.alpha)


def off_the_tone(image, tone):
    """The largest distance of an RGB picture's levels from the curve, [H, W]."""
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    return 255 * (tone.put_back_(pixels.clone()) - pixels).abs().amax(dim=0)


@pytest.mark.parametrize("size", [512, 256])
@pytest.mark.parametrize("name", TONES)
def test_one_tone_is_found_and_put_back(name, size):
    clean = as_picture(TONES[name]).resize((size, size), Image.Resampling.BOX)
    deviation, quality = (4, 75) if name == "grey" else (2, 90)  # JPEG blurs tones
    rough = as_picture(noisy(np.asarray(clean).astype(float), deviation))
    for picture in (clean, rough, as_jpeg(clean, quality), as_jpeg(rough, quality)):
        tone = tone_of(picture)
        assert tone is not None
        assert off_the_tone(clean, tone).mean() < (2.5 if size == 512 else 5.5)  # JPEG blurs colours
        assert (tone.curve.abs().max() == 0) == (name == "grey")


def test_a_toned_picture_keeps_its_luminance():
    pixels = FaceImageProcessor().load(as_picture(TONES["sepia"])).pixels
    tone = find_tone(pixels)
    toned = tone.put_back_(as_grey(pixels).clone())
    assert (luminance(toned) - luminance(pixels)).abs().mean() < 1e-3
    assert (toned - pixels).abs().mean() < 4e-3


@pytest.mark.parametrize("saturation", [1, 0.3, 0.2, 0.1])
@pytest.mark.parametrize("light", [1, 0.3])
def test_a_pale_or_dark_photograph_is_in_colour(saturation, light):
    pale = light * (GREY[..., None] + saturation * (PHOTO - GREY[..., None]))
    if saturation * light > 0.05:
        assert tone_of(as_picture(pale)) is None


def test_a_small_coloured_thing_makes_a_picture_coloured():
    picture = as_picture(TONES["grey"]).resize((1500, 1500))
    assert tone_of(picture) is not None
    ImageDraw.Draw(picture).ellipse((700, 300, 760, 360), fill=(190, 30, 60))  # a rose
    assert tone_of(picture) is None


def test_every_kind_of_grey_picture():
    grey = TONES["sepia"].clip(0, 255)
    deep = (grey / 255 * 65535).astype(np.uint16)
    cutout = np.dstack([grey, np.where(np.arange(512)[:, None] < 256, 255, 0) + 0 * GREY]).astype(np.uint8)
    cutout[300:, :, 0] = 255  # what cannot be seen does not count
    for picture in (deep, grey / 255, torch.from_numpy(grey / 255).permute(2, 0, 1), cutout, Image.fromarray(cutout)):
        assert tone_of(picture).curve.abs().max() > 0.02
    assert tone_of(Image.fromarray(GREY.astype(np.uint8))).curve.abs().max() == 0
    cutout[..., 3] = 0
    assert tone_of(cutout) is None


def test_a_single_pixel():
    assert tone_of(Image.new("RGB", (1, 1), "navy")).put_back_(torch.full((3, 1, 1), 0.05)).argmax() == 2


def near(result, tone):
    """A tone's steep ends turn a rounded luminance into several levels."""
    off = off_the_tone(result, tone)
    return off.quantile(0.99) <= 1.5 and off.max() <= 8


class Painter(FaceEnhancer):
    """An enhancer that paints everything red."""

    def forward(self, sample, return_features=False, return_dict=True):
        return FaceEnhancerOutput(sample=sample.new_tensor([0.5, -1, -1])[:, None, None].expand_as(sample))


@pytest.fixture(scope="module")
def painter(bundled):
    config = {key: value for key, value in tiny_enhancer().config.items() if not key.startswith("_")}
    return tiny_pipeline(bundled, enhancer=Painter(**config))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("upscale", [1, 2])
@pytest.mark.parametrize("name", TONES)
def test_every_result_has_the_one_tone(painter, name, upscale, aligned):
    picture = as_jpeg(as_picture(noisy(TONES[name], 2)), 80).crop((100, 0, 380, 280))
    tone = tone_of(picture)
    output = painter(picture, upscale=upscale, aligned=aligned)
    (face,) = output.faces[0]
    for result in (output.images[0], face.enhanced, face.crop):
        assert near(result, tone)
    alone = painter(picture, upscale=upscale, aligned=aligned, max_faces=0)
    for result in (alone.images[0], alone.faces[0][0].crop):
        assert near(result, tone)


def test_the_caller_s_picture_stays_as_it_is(painter):
    loaded = FaceImageProcessor().load(as_picture(noisy(TONES["sepia"])))
    before = loaded.pixels.clone()
    painter(loaded, upscale=1)
    assert torch.equal(loaded.pixels, before)


def test_grey_and_coloured_pictures_in_one_call(painter):
    grey, coloured = as_picture(TONES["grey"]), Image.fromarray(PHOTO)
    results = painter([grey, coloured, grey.convert("L")], upscale=1)
    for face in (results.faces[0][0], results.faces[2][0]):
        assert np.ptp(np.asarray(face.enhanced), axis=2).max() == 0
    assert np.ptp(np.asarray(results.images[0]), axis=2).max() == 0
    assert np.ptp(np.asarray(results.images[1]), axis=2).max() > 50
