import numpy as np
import torch
from PIL import Image

from hf_faceenh.learning.super_resolution import evaluate
from hf_faceenh.models.super_resolver import SuperResolver


def test_evaluation_measures_what_it_says():
    """A network that only upscales (nearest) is worse than bicubic on smooth pictures, and keeps more noise."""
    model = SuperResolver("compact", 2, num_feat=4, num_conv=1).eval()
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    coarse = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC))
    figures = evaluate(model, [picture])
    for row in figures.values():
        assert row["psnr_ours"] < row["psnr_bicubic"]
        assert row["flat_noise_ours"] > row["flat_noise_bicubic"]
    assert figures["poor"]["psnr_bicubic"] < figures["clean"]["psnr_bicubic"]
