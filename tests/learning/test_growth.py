"""Progressive resolution: an enhancer goes on with larger faces."""

import pytest
import torch
import torch.nn.functional as F

from hf_faceenh import FaceEnhancer
from hf_faceenh.learning.growth import grown

CONFIG = {
    "sample_size": 16,
    "encoder_channels": [[4], [5, 6], [7, 8]],
    "mapping_channels": [9],
    "constant_channels": 6,
    "decoder_channels": [[8, 7], [6, 5], [4, 3]],
}


def test_a_grown_network_does_to_a_large_face_what_the_first_did_to_the_small_one():
    torch.manual_seed(0)
    model = FaceEnhancer(**CONFIG).eval()
    larger = grown(model, 2).eval()
    assert (larger.config.sample_size, larger.config.patch_size) == (32, 2)
    faces = torch.rand(2, 3, 32, 32) * 2 - 1
    small = F.interpolate(faces, (16, 16), mode="area")
    with torch.no_grad():
        change, expected = larger(faces).sample - faces, model(small).sample - small
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(change, F.interpolate(expected, scale_factor=2, mode="nearest"))


def test_only_a_network_that_sees_single_pixels_grows():
    larger = grown(FaceEnhancer(**CONFIG), 2)
    with pytest.raises(ValueError, match="patch_size 1"):
        grown(larger, 2)
