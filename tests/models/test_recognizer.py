"""The face recognizer, and how transformers finds it."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel

from hf_faceenh.convert import convert
from hf_faceenh.models import FaceRecognizer, FaceRecognizerConfig


def tiny(**config) -> FaceRecognizer:
    torch.manual_seed(0)
    defaults = {"image_size": 40, "embedding_size": 5, "stem_channels": 4, "stage_channels": [4, 6, 8]}
    return FaceRecognizer(FaceRecognizerConfig(**defaults | {"stage_blocks": [1, 2, 1]} | config)).eval()


def test_default_is_dlibs_network():
    with torch.device("meta"):
        model = FaceRecognizer(FaceRecognizerConfig())
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 29
    assert model(torch.empty(2, 3, 150, 150, device="meta")).embeddings.shape == (2, 128)


@torch.no_grad()
def test_saved_folder_gives_the_same_embeddings(tmp_path):
    model, faces = tiny(distance="cosine", license="mine"), torch.rand(2, 3, 40, 40)
    model.mean += 1
    model.save_pretrained(tmp_path)
    for loaded in (FaceRecognizer.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is FaceRecognizer and not loaded.training
        assert torch.equal(loaded(faces).embeddings, model(faces).embeddings)
        assert loaded.config.distance == "cosine" and loaded.config.license == "mine"
    assert AutoConfig.from_pretrained(tmp_path).template == FaceRecognizerConfig().template


@pytest.mark.parametrize(
    "imports",
    [
        "import hf_faceenh; assert 'torch' not in sys.modules; from transformers import AutoModel",
        "from transformers import AutoModel; import hf_faceenh",
    ],
)
def test_auto_model_knows_it_once_the_package_is_imported(imports, tmp_path):
    tiny().save_pretrained(tmp_path)
    code = f"import sys; {imports}; print(type(AutoModel.from_pretrained({str(tmp_path)!r})).__name__)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "FaceRecognizer", result.stderr


@torch.no_grad()
def test_value_range_is_the_doors():
    faces = torch.rand(2, 3, 40, 40)
    expected = tiny()(faces).embeddings
    torch.testing.assert_close(tiny(value_range=(-1, 1))(2 * faces - 1).embeddings, expected)
    torch.testing.assert_close(tiny(value_range=(0, 255))(255 * faces).embeddings, expected)


def test_tuple_and_gradient():
    faces = torch.rand(2, 3, 40, 40, requires_grad=True)
    (embeddings,) = tiny()(faces, return_dict=False)
    embeddings.square().sum().backward()
    assert faces.grad.abs().amax(dim=(1, 2, 3)).min() > 0


@pytest.mark.parametrize("shape", [(3, 40, 40), (1, 4, 40, 40), (1, 3, 40, 41), (1, 3, 150, 150)])
def test_another_shape_is_one_clear_line(shape):
    with pytest.raises(ValueError, match=r"expects \[B, 3, 40, 40\] in \[0, 1\]; got \[") as raised:
        tiny()(torch.zeros(shape))
    assert "\n" not in str(raised.value)


@torch.no_grad()
def test_equals_dlib(astronaut, dlib_files, tmp_path):
    dlib = pytest.importorskip("dlib")
    published = dlib_files / "dlib_face_recognition_resnet_model_v1.dat"
    model = FaceRecognizer.from_pretrained(convert(published, tmp_path / "recognizer"))
    assert model.config.license.startswith("CC0")
    reference = dlib.face_recognition_model_v1(str(published))
    find_points = dlib.shape_predictor(str(dlib_files / "shape_predictor_5_face_landmarks.dat"))
    picture = np.array(Image.open(astronaut).convert("RGB"))
    points = find_points(picture, max(dlib.get_frontal_face_detector()(picture), key=lambda box: box.area()))
    chips = [dlib.get_face_chip(picture, points, 150, padding) for padding in (0.1, 0.25, 0.4)]
    chips += [chips[1][:, ::-1].copy(), 255 - chips[1], chips[1] // 4]  # mirrored, negative, dark
    expected = torch.stack([torch.tensor(reference.compute_face_descriptor(chip)) for chip in chips]).float()
    embeddings = model(torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2) / 255).embeddings
    torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=0)
    assert torch.pdist(expected).min() > 0.1  # the chips do differ
