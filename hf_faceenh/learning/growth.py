"""Progressive resolution: an enhancer goes on with larger faces (Karras et al. 2018)."""

import torch

from hf_faceenh.models import FaceEnhancer


@torch.no_grad()
def grown(model: FaceEnhancer, patch_size: int) -> FaceEnhancer:
    """The same network for faces `patch_size` times as large: it reads and writes a square of pixels where it had one.

    At first its first convolution takes the mean of each square, and its last one changes all pixels of a square
    alike: it does to a large face what `model` does to the same face downscaled.

    Args:
        model: with `patch_size` 1, for faces of side S.
        patch_size: of the new network, whose faces have a side of S · patch_size.

    Raises:
        ValueError: for another network.
    """
    if not isinstance(model, FaceEnhancer) or model.config.patch_size != 1:
        raise ValueError("--grow takes a FaceEnhancer with patch_size 1: others have no larger faces to go on with.")
    config = {name: value for name, value in model.config.items() if not name.startswith("_")}
    larger = FaceEnhancer(**config | {"patch_size": patch_size, "sample_size": model.config.sample_size * patch_size})
    weights, pixels = model.state_dict(), patch_size**2
    reads, writes = "convolutional_network.stem.weight", "generating_network.to_rgb."
    weights[reads] = weights[reads].repeat_interleave(pixels, dim=1) / pixels
    for name in ("weight", "bias"):
        weights[writes + name] = weights[writes + name].repeat_interleave(pixels, dim=0)
    larger.load_state_dict(weights)
    return larger
