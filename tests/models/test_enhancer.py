"""Our own enhancer."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from hf_faceenh import FaceEnhancer
from hf_faceenh.learning.reduction import macs
from hf_faceenh.loading import VARIANTS
from hf_faceenh.serialization import BUNDLED

# every convolution and linear layer of another width, so that a mixed-up pair of them cannot go unnoticed
UNEVEN = {
    "sample_size": 32,
    "encoder_channels": [[3], [4, 5], [6, 7], [9, 10]],
    "mapping_channels": [11, 12],
    "constant_channels": 13,
    "decoder_channels": [[14, 15], [16, 17], [18, 19], [20, 21]],
}


@pytest.fixture(scope="module")
def faces():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FaceEnhancer(**UNEVEN).eval()


def test_every_width_is_its_own_number_and_features_come_out_as_the_method_names_them(model, faces):
    output = model(faces, return_features=True)
    assert output.sample.shape == faces.shape
    assert [tuple(f.shape) for f in output.noise_features] == [
        (2, 3, 32, 32),
        (2, 5, 16, 16),
        (2, 7, 8, 8),
        (2, 10, 4, 4),
    ]
    assert output.attribute_feature.shape == (2, 12)
    assert model(faces).noise_features is None


def test_the_three_networks_compose_to_the_forward(model, faces):
    noise_features = model.convolutional_network(faces)
    attribute = model.mapping_network(noise_features[-1].flatten(1))
    torch.testing.assert_close(model(faces).sample, faces + model.generating_network(noise_features, attribute))


def test_squares_of_pixels_are_read_and_written_as_one_position():
    torch.manual_seed(0)
    model = FaceEnhancer(**UNEVEN | {"sample_size": 64, "patch_size": 2}).eval()
    faces = torch.rand(2, 3, 64, 64) * 2 - 1
    output = model(faces, return_features=True)
    assert output.sample.shape == faces.shape
    assert output.noise_features[0].shape == (2, 3, 32, 32)
    assert model.channel_groups()[0].resolution == 32
    with pytest.raises(ValueError, match="multiple of patch_size"):
        FaceEnhancer(**UNEVEN | {"sample_size": 33, "patch_size": 2})


def test_batch_equals_single(model, faces):
    together = model(faces).sample
    alone = torch.cat([model(face[None]).sample for face in faces])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_starts_near_its_input():
    torch.manual_seed(0)
    face = torch.rand(1, 3, 256, 256) * 2 - 1
    change = (FaceEnhancer()(face).sample - face).abs().mean()
    assert 0 < change < 0.1


def test_default_is_as_documented():
    model = FaceEnhancer()
    assert 2.2e6 < sum(p.numel() for p in model.parameters()) < 2.4e6
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 256, 256))
    assert counter.get_total_flops() / 2e9 == pytest.approx(2.78, abs=0.01)


def test_save_and_load(model, faces, tmp_path):
    model.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    torch.testing.assert_close(FaceEnhancer.from_pretrained(tmp_path)(faces).sample, model(faces).sample)
    half = FaceEnhancer.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half(faces.bfloat16()).sample.float(), model(faces).sample, atol=0.05, rtol=0)


def test_gradient_checkpointing_gives_the_same_gradients(faces):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = FaceEnhancer(**UNEVEN)
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(faces).sample.square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("shape", [(1, 4, 32, 32), (1, 3, 64, 64), (3, 32, 32)])
def test_another_shape_is_refused_in_one_line(model, shape):
    with pytest.raises(ValueError, match=r"FaceEnhancer expects \[B, 3, 32, 32\] in \[-1, 1\]; got") as error:
        model(torch.zeros(shape))
    assert "\n" not in str(error.value)


def test_unfitting_channels_are_refused():
    with pytest.raises(ValueError, match="sample_size 64 has 5 resolutions; encoder_channels has 4"):
        FaceEnhancer(**UNEVEN | {"sample_size": 64})
    with pytest.raises(ValueError, match="power of two"):
        FaceEnhancer(sample_size=48)


def test_the_fast_enhancer_takes_a_quarter_of_the_bundled_ones_multiply_accumulates(bundled):
    fast = FaceEnhancer.from_pretrained(BUNDLED / VARIANTS["fast"], dtype=torch.float32)
    assert macs(fast) <= 0.25 * macs(bundled.enhancer)
    blurred = torch.nn.functional.interpolate(torch.rand(1, 3, 32, 32) * 2 - 1, size=(256, 256), mode="bicubic")
    with torch.no_grad():
        change = (fast(blurred).sample - blurred).abs().mean()
    assert 0.001 < change < 0.5  # a trained network: it changes the face, and leaves it a face


def test_the_vivid_enhancer_is_sharper_at_the_same_cost(bundled, astronaut):
    vivid = FaceEnhancer.from_pretrained(BUNDLED / VARIANTS["vivid"], dtype=torch.float32)
    assert macs(vivid) == macs(bundled.enhancer)
    face = Image.open(astronaut).convert("RGB").crop((140, 30, 300, 190)).resize((96, 96), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.asarray(face.resize((512, 512), Image.Resampling.BICUBIC)).copy())
    sample = pixels.permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        images = [model(sample).sample for model in (bundled.enhancer, vivid)]
    fine = [(image - F.avg_pool2d(F.pad(image, (2,) * 4, mode="reflect"), 5, 1)).std() for image in images]
    assert fine[1] > 1.05 * fine[0]
    assert (images[1] - images[0]).abs().mean() < 0.1  # of a range of 2: the same face
