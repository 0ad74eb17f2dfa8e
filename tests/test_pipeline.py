"""The pipeline as a user calls it: results, records, choices, progress, memory and refusals."""

import copy
import gc
import io
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from tiny import REGIONS, tiny_codeformer, tiny_enhancer, tiny_parser, tiny_pipeline

from hf_faceenh import FaceEnhancePipeline, FaceEnhancer, GPENFaceEnhancer, SuperResolver, pipeline, window
from hf_faceenh.alignment import crop_faces
from hf_faceenh.faces import Reason
from hf_faceenh.models.face_network import FaceEnhancerOutput
from hf_faceenh.models.gpen import gpen_config


class Unchanged(FaceEnhancer):
    """An enhancer that returns its input."""

    def forward(self, sample, return_features=False, return_dict=True):
        return FaceEnhancerOutput(sample=sample)


class Painter(FaceEnhancer):
    """An enhancer that paints everything black: its colours would give way to the photograph's."""

    def forward(self, sample, return_features=False, return_dict=True):
        return FaceEnhancerOutput(sample=torch.full_like(sample, -1))


def small(cls, size=256):
    return cls(**{key: value for key, value in tiny_enhancer(size).config.items() if not key.startswith("_")})


@pytest.fixture(scope="module")
def photo(astronaut):
    return Image.open(astronaut).convert("RGB")


def skin_in_the_middle():
    """A parser that sees skin in the crop's middle, background around it."""
    parser = tiny_parser()
    forward = parser.forward

    def in_the_middle(pixel_values):
        output = forward(pixel_values=pixel_values)
        side = output.logits.shape[-1]
        output.logits[:, REGIONS.index("background")] = 30
        output.logits[:, REGIONS.index("skin"), side // 4 : -side // 4, side // 4 : -side // 4] = 60
        return output

    parser.forward = in_the_middle
    return parser


def two_faces(photo):
    """The face large, and again at half the size beside it."""
    canvas = Image.new("RGB", (640, 320), "grey")
    face = photo.crop((120, 20, 340, 240))
    canvas.paste(face, (20, 40))
    canvas.paste(face.resize((110, 110)), (420, 100))
    return canvas


def as_array(image):
    return np.asarray(image).astype(int)


def test_a_photograph_comes_back_upscaled_with_its_face_described(tiny, photo):
    output = tiny(photo)
    (image,), ((face,),) = output.images, output.faces
    assert image.size == (1024, 1024) and image.mode == "RGB"
    x1, y1, x2, y2 = face.box
    assert 170 < x1 < 195 and 50 < y1 < 75 and 255 < x2 < 285 and 165 < y2 < 195
    assert face.landmarks.shape == (5, 2) and face.score > 0.7 and face.left_alone is None
    assert face.crop.size == face.enhanced.size == (256, 256)
    assert face.parsing.shape == face.mask.shape == (256, 256) and face.parsing.dtype == np.uint8
    assert face.mask.min() >= 0 and face.mask.max() <= 1
    # the transform takes the landmarks to the crop's upright layout: eyes level, left eye left
    points = face.landmarks @ face.transform[:, :2].T + face.transform[:, 2]
    assert abs(points[0, 1] - points[1, 1]) < 8 and 85 < points[0, 0] < 110 and 145 < points[1, 0] < 175
    with pytest.raises(FrozenInstanceError):
        face.score = 0


def test_only_the_face_changes(bundled, photo):
    """Painted black, the face shows where the mask lies: on the face, not on hair, background or the suit."""
    pipe = tiny_pipeline(bundled, enhancer=small(Painter), parser=skin_in_the_middle(), super_resolver=None)
    result, plain = as_array(pipe(photo, upscale=1).images[0]), as_array(photo)
    changed = np.abs(result - plain).max(axis=2)
    assert changed[125, 225] > 100  # the nose
    changed[40:200, 145:305] = 0  # the crop
    assert changed.max() == 0


def test_no_seam(bundled, photo):
    """With an enhancer that changes nothing, nothing shows: neither the face nor the mask's edge."""
    pipe = tiny_pipeline(bundled, enhancer=small(Unchanged), parser=skin_in_the_middle(), super_resolver=None)
    smooth = photo.filter(ImageFilter.GaussianBlur(2))  # so that resampling costs nothing
    for upscale in (1, 2):
        fused = as_array(pipe(smooth, upscale=upscale).images[0])
        plain = as_array(pipe(smooth, upscale=upscale, max_faces=0).images[0])
        assert np.abs(fused - plain).max() <= 2
    # on the sharp photograph, what resampling costs is not more along the mask's edge than inside the face
    output = pipe(photo)
    difference = np.abs(as_array(output.images[0]) - as_array(pipe(photo, max_faces=0).images[0])).max(axis=2)
    assert difference.mean() < 0.1 and np.percentile(difference, 99.9) < 12


def test_with_a_super_resolver_the_identity_stays_the_super_resolved_photograph(bundled, photo):
    pipe = tiny_pipeline(
        bundled, enhancer=small(Unchanged), parser=skin_in_the_middle(), super_resolver=bundled.super_resolver
    )
    smooth = photo.filter(ImageFilter.GaussianBlur(2))
    fused, plain = (as_array(pipe(smooth, max_faces=n).images[0]) for n in (None, 0))
    assert np.abs(fused - plain).mean() < 0.2 and np.percentile(np.abs(fused - plain), 99.9) < 8


def test_strength_0_is_the_super_resolved_photograph(tiny, photo):
    untouched = as_array(tiny(photo, max_faces=0).images[0])
    np.testing.assert_array_equal(as_array(tiny(photo, strength=0).images[0]), untouched)
    assert np.abs(as_array(tiny(photo).images[0]) - untouched).max() > 2


def test_a_strength_for_each_face(bundled, photo):
    """Of two faces painted black, the large one entirely, the small one to a quarter or not at all."""
    pipe = tiny_pipeline(bundled, enhancer=small(Painter), parser=skin_in_the_middle(), super_resolver=None)
    canvas = two_faces(photo)
    large = max(pipe(canvas, upscale=1, max_faces=0).faces[0], key=lambda face: face.size)
    whole = pipe(canvas, upscale=1)
    assert [face.strength for face in whole.faces[0]] == [1, 1]
    full = as_array(whole.images[0]) - as_array(canvas)
    for least in (0, 0.25):
        output = pipe(canvas, upscale=1, strength=lambda face, least=least: 1 if face.size == large.size else least)
        change = as_array(output.images[0]) - as_array(canvas)
        for face in output.faces[0]:
            x1, y1, x2, y2 = map(int, face.box)
            assert face.strength == (1 if face.size == large.size else least) and face.left_alone is None
            assert face.mask.max() == pytest.approx(face.strength, abs=0.01)
            part = np.s_[y1:y2, x1:x2]
            assert np.abs(full[part]).max() > 100 and np.abs(change[part] - face.strength * full[part]).max() <= 1
    alone = pipe(canvas, upscale=1, max_faces=1, strength=0.5).faces[0]
    assert sorted((face.strength, face.left_alone is None) for face in alone) == [(0, False), (0.5, True)]


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), None, "much"])
def test_a_function_that_gives_no_strength_is_refused_in_one_line(tiny, photo, value):
    with pytest.raises(
        ValueError, match=r"strength must return a number in \[0, 1\]; got .* for the face at"
    ) as error:
        tiny(photo, upscale=1, restore_background=False, strength=lambda face: value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("upscale", [1, 4])
def test_the_enhancer_sees_the_mean_of_the_photograph_and_the_super_resolved_one(tiny, photo, upscale):
    face = tiny(photo, upscale=upscale, output_type="pt").faces[0][0]
    large = tiny(photo, upscale=upscale, max_faces=0, output_type="pt").images[0]
    small = torch.from_numpy(as_array(photo)).permute(2, 0, 1) / 255
    transform = torch.from_numpy(face.transform)[None]
    from_large = crop_faces(large, torch.cat([transform[..., :2] / upscale, transform[..., 2:]], dim=-1), 256)
    mean = (crop_faces(small, transform, 256) + from_large)[0] / 2
    torch.testing.assert_close(face.crop, mean, atol=2e-3, rtol=0)
    assert (mean - crop_faces(small, transform, 256)[0]).abs().max() > 0.02


def test_large_tiny_and_surplus_faces_are_left_alone_and_say_why(tiny, photo):
    canvas = two_faces(photo)
    big, little = sorted(tiny(canvas, upscale=1).faces[0], key=lambda face: -face.size)
    assert big.left_alone is None and little.left_alone is None and big.size == pytest.approx(2 * little.size, rel=0.1)
    reasons = {}
    for name, limits in {
        "min_face_size": {"min_face_size": 100},
        "max_face_size": {"max_face_size": 100},
        "max_faces": {"max_faces": 1},
    }.items():
        faces = sorted(tiny(canvas, upscale=1, **limits).faces[0], key=lambda face: -face.size)
        reasons[name] = [face.left_alone for face in faces]
        alone = next(face for face in faces if face.left_alone)
        assert alone.enhanced is None and alone.mask is None and alone.crop.size == (256, 256)
        assert name in alone.left_alone
    assert [r is None for r in reasons["min_face_size"]] == [True, False]
    assert [r is None for r in reasons["max_face_size"]] == [False, True]
    assert [r is None for r in reasons["max_faces"]] == [True, False]


def test_only_the_faces_that_one_asks_for(bundled, photo):
    """Of two faces painted black, one."""
    pipe = tiny_pipeline(bundled, enhancer=small(Painter), parser=skin_in_the_middle(), super_resolver=None)
    canvas = two_faces(photo)
    plain = as_array(canvas)
    for chosen in (0, 1):
        output = pipe([canvas, canvas], upscale=1, only_faces=[[chosen], []])
        changed = np.abs(as_array(output.images[0]) - plain).max(axis=2) > 20
        for index, face in enumerate(output.faces[0]):
            x1, y1, x2, y2 = map(int, face.box)
            assert face.left_alone == (None if index == chosen else "not chosen (only_faces)")
            assert (changed[y1:y2, x1:x2].mean() > 0.1) == (index == chosen)
        np.testing.assert_array_equal(as_array(output.images[1]), plain)
    # the largest among those asked for
    assert sum(face.left_alone is None for face in pipe(canvas, only_faces=[[0, 1]], max_faces=1).faces[0]) == 1
    with pytest.raises(ValueError, match="only_faces must hold one list per picture, 1; got 2"):
        pipe(canvas, only_faces=[[0], [1]])
    with pytest.raises(ValueError, match="only_faces asks for face 2 of a picture with 2"):
        pipe(canvas, only_faces=[[2]])


def test_a_face_sharper_than_the_enhancer_is_left_alone_by_default(bundled, photo):
    pipe = tiny_pipeline(bundled, enhancer=tiny_enhancer(32))  # the photograph's face has more detail than that
    output = pipe(photo, upscale=1)
    (face,) = output.faces[0]
    assert face.reason is Reason.SHARP_ENOUGH and f"detail of about {face.detail:.0f} px" in face.left_alone
    np.testing.assert_array_equal(as_array(output.images[0]), as_array(pipe(photo, upscale=1, max_faces=0).images[0]))
    assert pipe(photo, upscale=1, max_face_size=float("inf")).faces[0][0].left_alone is None


def test_a_large_face_without_detail_is_enhanced(tiny, photo):
    large = photo.resize((1280, 1280), Image.Resampling.BICUBIC)  # its crop: 400 px, with the detail of 160
    (face,) = tiny(large, upscale=1).faces[0]
    assert face.left_alone is None and face.size > 380 and face.detail < face.size / 2


def test_no_face_is_no_error(tiny, caplog):
    diffusers.utils.logging.enable_propagation()
    try:
        with caplog.at_level("WARNING"):
            output = tiny(Image.new("RGB", (70, 50), "navy"))
    finally:
        diffusers.utils.logging.disable_propagation()
    assert output.images[0].size == (140, 100) and output.faces == [[]]
    assert [record.message for record in caplog.records] == ["No face found; the picture is super-resolved only."]


def test_pictures_of_different_sizes_in_one_call_equal_single_calls(tiny, photo):
    pictures = [photo, two_faces(photo), Image.new("RGB", (33, 57), "white"), photo.crop((100, 0, 400, 301))]
    together = tiny(pictures, face_batch_size=3)
    for index, picture in enumerate(pictures):
        alone = tiny(picture, face_batch_size=1)
        assert np.abs(as_array(together.images[index]) - as_array(alone.images[0])).max() <= 1
        assert [face.box for face in together.faces[index]] == [face.box for face in alone.faces[0]]
    assert [len(faces) for faces in together.faces] == [1, 2, 0, 1]


def test_without_pictures_of_the_faces_the_result_is_the_same(tiny, photo):
    pictures = [photo, photo.resize((48, 48))]  # the second one's face is left alone
    full, plain = (tiny(pictures, face_pictures=wanted) for wanted in (True, False))
    for image, same in zip(full.images, plain.images, strict=True):
        np.testing.assert_array_equal(as_array(image), as_array(same))
    for (face,), (bare,) in zip(full.faces, plain.faces, strict=True):
        assert (bare.crop, bare.enhanced, bare.parsing, bare.mask) == (None,) * 4 and face.crop is not None
        assert (bare.box, bare.reason, bare.strength) == (face.box, face.reason, face.strength)


@pytest.mark.parametrize("side", [200, 270])  # the crop has 62 or 84 px of it, 125 or 168 of the result
def test_a_small_face_waits_reduced_and_comes_out_the_same(bundled, photo, monkeypatch, side):
    small, sides, reduced = photo.resize((side, side)), [], window.reduced

    def unreduced(picture, side):
        sides.append(reduced(picture, side).shape[-1])
        return picture

    (result,) = bundled(small).images
    monkeypatch.setattr(window, "reduced", unreduced)
    (whole,) = bundled(small).images
    assert sides == [256, 256]  # face and mask
    difference = np.abs(as_array(result) - as_array(whole))
    assert difference.max() <= 3 and difference.mean() < 0.02


def test_the_same_again(tiny, photo):
    np.testing.assert_array_equal(as_array(tiny(photo).images[0]), as_array(tiny(photo).images[0]))


@pytest.mark.parametrize("upscale", [1, 2, 4])
@pytest.mark.parametrize("scale", [None, 1, 2, 4])
def test_any_super_resolver_gives_the_wanted_size(bundled, photo, upscale, scale):
    torch.manual_seed(0)
    resolver = scale and SuperResolver(scale=scale, num_feat=4, num_conv=1)
    pipe = tiny_pipeline(bundled, super_resolver=resolver)
    small_photo = photo.crop((120, 20, 341, 240))
    assert pipe(small_photo, upscale=upscale).images[0].size == (221 * upscale, 220 * upscale)


def test_without_background_only_the_face_is_worked_on(tiny, photo):
    image = as_array(tiny(photo, restore_background=False).images[0])
    bicubic = torch.nn.functional.interpolate(
        torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[None].float(), scale_factor=2, mode="bicubic"
    )
    bicubic = bicubic[0].clamp(0, 255).round().permute(1, 2, 0).numpy().astype(int)
    corner = np.s_[600:, 600:]
    assert np.abs(image[corner] - bicubic[corner]).max() <= 1
    assert np.abs(as_array(tiny(photo).images[0])[corner] - bicubic[corner]).max() > 1


def test_kinds_of_input_and_output(tiny, photo, astronaut):
    reference = as_array(tiny(photo, upscale=1).images[0])
    array = np.asarray(photo)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1) / 255
    for same in (astronaut, str(astronaut), astronaut.read_bytes(), array, array / 255, tensor):
        assert np.abs(as_array(tiny(same, upscale=1).images[0]) - reference).max() <= 1
    output = tiny(photo, upscale=1, output_type="np")
    assert output.images[0].dtype == np.float32 and np.abs(output.images[0] * 255 - reference).max() < 0.51
    assert output.faces[0][0].enhanced.shape == (256, 256, 3)
    output = tiny(photo, upscale=1, output_type="pt")
    assert output.images[0].shape == (3, 512, 512) and output.faces[0][0].crop.shape == (3, 256, 256)
    images, faces = tiny(photo, upscale=1, return_dict=False)
    assert len(images) == len(faces) == 1


def test_grey_stays_grey_and_alpha_is_kept(tiny, photo):
    assert tiny(photo.convert("L")).images[0].mode == "L"
    with_alpha = photo.convert("RGBA")
    with_alpha.putalpha(Image.linear_gradient("L").resize(photo.size))
    result = tiny(with_alpha).images[0]
    assert result.mode == "RGBA" and result.size == (1024, 1024)
    expected = np.asarray(with_alpha.getchannel("A").resize((1024, 1024), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(as_array(result.getchannel("A")) - expected).max() <= 1


def test_aligned_crops(bundled, photo):
    pipe = tiny_pipeline(bundled, detector=None)
    crop = photo.crop((144, 40, 304, 200))
    output = pipe(crop, aligned=True)
    assert output.images[0].size == (512, 512)
    face = output.faces[0][0]
    assert face.landmarks is None and face.size == 160 and face.box == (0, 0, 160, 160)
    once = pipe(crop, aligned=True, upscale=1)
    np.testing.assert_array_equal(as_array(once.images[0]), as_array(once.faces[0][0].enhanced))
    unchanged = pipe(crop, aligned=True, upscale=1, strength=0)
    np.testing.assert_array_equal(as_array(unchanged.images[0]), as_array(unchanged.faces[0][0].crop))
    half, whole = (pipe(crop, aligned=True, upscale=1, strength=lambda face, s=s: s).images[0] for s in (0.5, 1))
    mean = (as_array(unchanged.images[0]) + as_array(whole)) / 2
    assert np.abs(as_array(half) - mean).max() <= 1
    assert pipe(photo, aligned=True, upscale=1).images[0].size == (256, 256)  # the caller chose, whatever its size
    large = pipe(photo, aligned=True, upscale=1, max_face_size=320)
    assert large.images[0].size == (512, 512) and "too large" in large.faces[0][0].left_alone
    with pytest.raises(ValueError, match="An aligned crop is square; got 160×100 px"):
        pipe(crop.crop((0, 0, 160, 100)), aligned=True)
    with pytest.raises(ValueError, match="no detector.*aligned=True"):
        pipe(photo)


def test_another_parser_fits_by_its_label_names(bundled, photo):
    """The 19 classes of the parsers on the Hub, in another order than ours."""
    names = "cloth neck hair hat ear_r l_ear r_ear neck_l eye_g background".split() + REGIONS[:0:-1]
    pipe = tiny_pipeline(bundled, parser=tiny_parser(names))
    assert pipe(photo).faces[0][0].mask[128, 128] > 0.99
    hair_only = tiny_parser(names)
    with torch.no_grad():
        hair_only.decode_head.classifier.bias[names.index("hair")] = 60
    pipe = tiny_pipeline(bundled, parser=hair_only)
    assert pipe(photo, regions="face").faces[0][0].reason is Reason.NO_GAIN  # nothing is taken of it
    assert pipe(photo).faces[0][0].mask[128, 128] > 0.99


def test_gpen_fits_in(bundled, photo):
    torch.manual_seed(0)
    gpen = GPENFaceEnhancer(**gpen_config(64, 16, 2, 1, 0.0625))
    output = tiny_pipeline(bundled, enhancer=gpen)(photo, max_face_size=500)
    assert output.faces[0][0].enhanced.size == (64, 64) and output.images[0].size == (1024, 1024)


def test_no_gradients_and_evaluation_mode(bundled, photo):
    pipe = tiny_pipeline(bundled, parser=tiny_parser())
    pipe.enhancer.train(), pipe.parser.train()
    first, second = (pipe(photo, output_type="pt", upscale=1) for _ in range(2))
    assert not first.images[0].requires_grad
    assert not pipe.enhancer.training and not pipe.parser.training
    torch.testing.assert_close(first.images[0], second.images[0])


def test_half_precision(bundled, photo):
    pipe = tiny_pipeline(bundled)
    reference = as_array(pipe(photo, upscale=1).images[0])
    half = copy.deepcopy(pipe).to(dtype=torch.bfloat16)
    assert np.abs(as_array(half(photo, upscale=1).images[0]) - reference).mean() < 3
    with pytest.raises(ValueError, match="float16.*dtype=torch.float32"):
        copy.deepcopy(pipe).to(dtype=torch.float16)(photo)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upscale": 3}, "upscale must be 1, 2 or 4; got 3"),
        ({"strength": 1.2}, r"strength must lie in \[0, 1\], or be a function of a face; got 1.2"),
        ({"strength": "much"}, r"strength must lie in \[0, 1\], or be a function of a face; got 'much'"),
        ({"detection_threshold": -1}, "detection_threshold"),
        ({"max_faces": -1}, "max_faces"),
        ({"min_face_size": -1}, "min_face_size"),
        ({"face_batch_size": 0}, "face_batch_size"),
        ({"regions": "hair"}, 'regions must be "head" or "face"; got .hair.'),
        ({"tile_size": 10}, "tile_size must be at least 64 px; got 10"),
        ({"identity_limit": -1}, "identity_limit must be 0 or more"),
        ({"identity_limit": float("nan")}, "identity_limit must be 0 or more"),
        ({"grain": 0.5, "aligned": True}, "Aligned crops get no grain"),
        ({"denoise": 1.5}, r"denoise must lie in \[0, 1\]"),
        ({"denoise": 0.5, "aligned": True}, "Aligned crops are not denoised"),
        ({"fidelity": 1.5}, r"fidelity must lie in \[0, 1\]"),
        ({"fidelity": 0.5}, "enhancer, a FaceEnhancer, has no fidelity to set. Leave fidelity out, or load"),
        ({"output_type": "latent"}, "output_type must be one of pil, deep, np, pt; got 'latent'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(tiny, photo, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        tiny(photo, **arguments)
    assert "\n" not in str(error.value)


def test_fidelity_turns_the_enhancers_dial(bundled, photo):
    pipe = tiny_pipeline(bundled, enhancer=tiny_codeformer())
    results = {
        fidelity: as_array(pipe(photo, upscale=1, max_face_size=np.inf, fidelity=fidelity).images[0])
        for fidelity in (None, 0.5, 0, 1)
    }
    assert (results[None] == results[0.5]).all()
    assert (results[0] != results[1]).any()


def test_the_progress_bar_counts_faces_and_tiles(tiny, photo, capfd):
    tiny.set_progress_bar_config(disable=False)
    try:
        tiny(photo, tile_size=256)
    finally:
        tiny.set_progress_bar_config(disable=True)
    assert "10/10" in capfd.readouterr().err  # one batch of faces, 3 × 3 tiles


def test_the_callback_hears_of_every_step(tiny, photo):
    calls = []
    tiny(
        [two_faces(photo), photo],
        upscale=1,
        face_batch_size=2,
        tile_size=256,
        callback=lambda *call: calls.append(call),
    )
    steps = {stage: [call[1:] for call in calls if call[0] == stage] for stage, *_ in calls}
    assert list(steps) == ["detecting", "super-resolving", "enhancing", "fusing"]
    assert steps["detecting"] == [(0, 2), (1, 2), (2, 2)]
    assert steps["enhancing"] == [(0, 3), (2, 3), (3, 3)]
    assert steps["super-resolving"] == [(n, 6) for n in range(7)] + [(n, 9) for n in range(10)]
    assert steps["fusing"] == [(0, 2), (1, 2), (2, 2), (0, 1), (1, 1)]


@pytest.mark.parametrize("stage", ["detecting", "super-resolving", "enhancing", "fusing"])
def test_a_callback_that_raises_cancels_at_once(tiny, photo, stage):
    calls = []

    def stop(*call):
        calls.append(call)
        if call[0] == stage:
            raise InterruptedError(stage)

    with pytest.raises(InterruptedError, match=stage):
        tiny(photo, callback=stop)
    assert calls[-1][:2] == (stage, 0)
    assert tiny(photo).images[0].size == (1024, 1024)  # and the pipeline lives on


def test_bundled_weights(bundled):
    models = (bundled.enhancer, bundled.parser, bundled.detector, bundled.super_resolver, bundled.recognizer)
    assert {model.dtype for model in models} == {torch.float32}
    folder = FaceEnhancePipeline.from_pretrained().config._name_or_path
    conv = bundled.enhancer.convolutional_network.stages[0][1].weight
    assert conv.is_contiguous(memory_format=torch.channels_last)  # else a CPU reorders every weight at every face
    configs = [json.loads(path.read_text()) for path in folder.glob("*/config.json")]
    assert len(configs) == 7 and not any("_name_or_path" in config for config in configs)  # a path of our machine
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == ["pipeline", "FaceEnhancePipeline"]
    assert bundled.enhancer.config.sample_size == 512


def test_bundled_pipeline_restores_a_degraded_face(bundled, photo):
    """The astronaut at a quarter of the size, compressed: the result is nearer to the photograph than bicubic is."""
    crop = photo.crop((112, 8, 336, 232))
    degraded = crop.resize((56, 56), Image.Resampling.BOX)
    file = io.BytesIO()
    degraded.save(file, "JPEG", quality=60)
    result = bundled(file.getvalue(), upscale=4, min_face_size=16)
    assert result.faces[0][0].left_alone is None
    bicubic = Image.open(file).resize((224, 224), Image.Resampling.BICUBIC)
    inner = (50, 40, 180, 190)  # the face

    def error(image):
        return np.square(as_array(image.crop(inner)) - as_array(crop.crop(inner))).mean()

    assert error(result.images[0]) < 0.95 * error(bicubic)


class Alive:
    """A callback that counts what the pipeline has in memory at once.

    Args:
        shapes: by name, what a tensor's shape begins and ends with.
    """

    def __init__(self, **shapes):
        self.shapes, self.most = shapes, dict.fromkeys(shapes, 0)

    def __call__(self, stage, done, total):
        tensors = [item for item in gc.get_objects() if type(item) is torch.Tensor]
        for name, is_counted in self.shapes.items():
            found = {item.untyped_storage().data_ptr(): item for item in tensors if is_counted(item)}
            self.most[name] = max(self.most[name], sum(len(item) for item in found.values()))


@pytest.fixture
def counting():
    """Makes an `Alive` for which only what comes after it counts."""

    def counting(**shapes):
        gc.freeze()  # all there is, a million objects, no longer among `gc.get_objects`
        return Alive(**shapes)

    yield counting
    gc.unfreeze()


def test_of_a_long_list_a_few_pictures_are_in_memory_at_once(bundled, counting, photo):
    pipe = tiny_pipeline(bundled)
    pictures = [photo.crop((120, 20, 340, 240))] * 6
    alive = counting(upscaled=lambda item: item.shape == (3, 440, 440))
    pipe(pictures, face_batch_size=2, callback=alive)
    assert 3 <= alive.most["upscaled"] <= 3 * 3  # two that wait for a batch of two faces, and the clone that is fused


def test_of_a_long_list_large_pictures_are_read_when_their_turn_comes(bundled, counting, photo, tmp_path, monkeypatch):
    pipe = tiny_pipeline(bundled)
    pictures = [tmp_path / f"{index}.png" for index in range(5)]
    for index, path in enumerate(pictures):
        photo.crop((120, 20, 340, 240)).rotate(90 * index).convert("L" if index == 3 else "RGB").save(path)
    expected = pipe(pictures)
    monkeypatch.setattr(pipeline, "DECODED", 2 * 220 * 220)
    monkeypatch.setattr(pipeline, "PIXELS", 220 * 220)
    alive = counting(decoded=lambda item: item.shape == (3, 220, 220))
    found = pipe(pictures, callback=alive)
    assert [image.tobytes() for image in found.images] == [image.tobytes() for image in expected.images]
    assert [len(faces) for faces in found.faces] == [len(faces) for faces in expected.faces]
    assert 0 < alive.most["decoded"] <= 3 * 4  # two that wait, the one on its way, and its result


def test_a_picture_that_changed_before_its_turn_came_is_told(bundled, photo, tmp_path, monkeypatch):
    pipe = tiny_pipeline(bundled)
    pictures = [tmp_path / f"{index}.png" for index in range(2)]
    for path in pictures:
        photo.save(path)
    monkeypatch.setattr(pipeline, "DECODED", 1)
    replaced = lambda stage, *_: stage == "enhancing" and photo.crop((0, 0, 99, 99)).save(pictures[1])  # noqa: E731
    with pytest.raises(OSError, match="A picture has changed"):
        pipe(pictures, upscale=1, callback=replaced)


def test_of_many_faces_no_label_probabilities_are_kept(bundled, counting, photo):
    pipe = tiny_pipeline(bundled, detector=None)
    labels = len(REGIONS)
    alive = counting(probabilities=lambda item: item.ndim == 4 and item.shape[1:] == (labels, 256, 256))
    crops = [photo.crop((144, 40, 304, 200)).resize((64, 64))] * 12
    pipe(crops, aligned=True, upscale=1, face_batch_size=2, callback=alive)
    assert 0 < alive.most["probabilities"] <= 2


MEMORY = """
import resource, numpy as np, torch
from hf_faceenh import FaceEnhancePipeline
pipe = FaceEnhancePipeline.from_pretrained()
picture = np.random.default_rng(0).integers(0, 256, (50, 75, 3), dtype=np.uint8).repeat(80, 0).repeat(80, 1)
image = pipe(picture, upscale=2).images[0]
print(*image.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_24_megapixel_photograph_needs_less_than_4_gb():
    result = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    width, height, kilobytes = map(int, result.stdout.split())
    assert (width, height) == (12000, 8000)
    assert kilobytes * 1024 < 4e9


LARGE = """
import resource, sys, torch
from hf_faceenh import FaceEnhancePipeline
from hf_faceenh.models import FaceDetections
pipe = FaceEnhancePipeline.from_pretrained()
pipe.set_progress_bar_config(disable=True)
none = FaceDetections(torch.zeros(0, 4), torch.zeros(0, 5, 2), torch.zeros(0))
pipe.detector.detect = lambda *_: none
images = pipe([sys.argv[1]] * int(sys.argv[2]), upscale=1, restore_background=False).images
assert all(image.size == (65500, 1500) for image in images)
made = sum(4 * image.width * image.height for image in images)  # Pillow keeps 4 bytes a pixel
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - made)
"""


@pytest.mark.slow
def test_of_small_files_with_98_megapixels_several_need_what_one_needs():
    file = Path(__file__).parent / "data" / "declares_98_megapixels.jpg"
    assert file.stat().st_size < 5000
    commands = [[sys.executable, "-c", LARGE, str(file), count] for count in "13"]
    one, three = (int(subprocess.run(words, stdout=-1, check=True).stdout) for words in commands)
    assert three < 1.1 * one


SHEET = """
import resource, sys, numpy as np, torch
from PIL import Image
from hf_faceenh import FaceEnhancePipeline
from hf_faceenh.models import FaceDetections

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

pipe = FaceEnhancePipeline.from_pretrained()
pipe.set_progress_bar_config(disable=True)
portrait = Image.open(sys.argv[1]).convert("RGB").crop((144, 40, 304, 200)).resize((64, 64))
found = pipe.detector.detect(torch.from_numpy(np.array(portrait)).permute(2, 0, 1) / 255)

def sheet(columns, rows):
    canvas = Image.fromarray(np.tile(np.asarray(portrait), (rows, columns, 1)))
    corners = 64.0 * torch.cartesian_prod(torch.arange(columns), torch.arange(rows))[:, None]
    boxes = (found.boxes[:1].reshape(1, 2, 2) + corners).reshape(-1, 4)
    return canvas, FaceDetections(boxes, found.landmarks[:1] + corners, torch.ones(len(boxes)))
"""
CROWD = """
canvas, faces = sheet(40, 25)
pipe.detector.detect = lambda *_: faces
(records,) = pipe(canvas, face_pictures=False).faces
print(sum(face.left_alone is None for face in records), used())
"""
LIST = """
canvas, faces = sheet(12, 8)
one = FaceDetections(faces.boxes[:1], faces.landmarks[:1], faces.scores[:1])
pipe.detector.detect = lambda *_: one
pictures = [pipe.image_processor.load(canvas)] * int(sys.argv[2])
output = pipe(pictures, upscale=4, restore_background=False)
made = sum(4 * image.width * image.height for image in output.images)  # Pillow keeps 4 bytes a pixel
made += sum(8 * face.mask.size + face.mask.nbytes + face.parsing.nbytes for (face,) in output.faces)  # crop, enhanced
print(used() - made)
"""


def printed(code, *arguments):
    command = [sys.executable, "-c", SHEET + code, *map(str, arguments)]
    return [float(word) for word in subprocess.run(command, stdout=-1, text=True, check=True).stdout.split()]


@pytest.mark.slow
def test_a_thousand_faces_need_less_than_2_5_gb(astronaut):
    faces, used = printed(CROWD, astronaut)
    assert faces == 1000 and used < 2.5e9


@pytest.mark.slow
def test_a_list_of_50_pictures_needs_what_two_need(astronaut):
    (two,), (fifty,) = (printed(LIST, astronaut, count) for count in (2, 50))
    assert fifty < 1.05 * two
