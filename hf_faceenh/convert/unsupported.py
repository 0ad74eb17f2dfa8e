"""Networks that people have files of and that we have no class for: who brings one learns what it is."""

import re

from hf_faceenh.convert.architecture import StateDict

# Name → pattern that matches the beginning of some key. The first that matches counts.
SIGNATURES = {
    "HAT, a super-resolver": r"layers\.\d+\.residual_group\.overlap_attn\.",
    "Swin2SR, a super-resolver": r"layers\.\d+\.residual_group\.blocks\.\d+\.attn\.(logit_scale|cpb_mlp)",
    "SwinIR, a super-resolver": r"layers\.\d+\.residual_group\.blocks\.\d+\.attn\.",
    "DAT, a super-resolver": r"layers\.\d+\.blocks\.\d+\.attn\.attns\.",
    "RealPLKSR, a super-resolver": r"feats\.\d+\.channe_mixer\.",
    "SPAN, a super-resolver": r"block_1\.c1_r\.",
    "SCUNet, a denoiser": r"m_body\.\d+\.trans_block\.",
    "Restormer, a denoiser": r"encoder_level1\.\d+\.attn\.temperature",
    "NAFNet, a denoiser": r"middle_blks\.\d+\.beta",
    "the first GFPGAN, whose clean form is supported from 1.2 on": r"conv_body_first\.0\.",
    "RetinaFace, a face detector": r"ClassHead\.\d+\.",
    "BiSeNet, a face parser": r"cp\.resnet\.",
    "ParseNet, a face parser": r"encoder\.\d+\.conv1\.conv2d\.",
    "ArcFace's ResNet, a face recognizer": r"layer1\.\d+\.prelu\.",
    "Stable Diffusion": r"model\.diffusion_model\.",
}


def name_of(state: StateDict) -> str | None:
    """What a state dict is, by its keys; `None` if that cannot be told."""
    for name, signature in SIGNATURES.items():
        if any(re.match(signature, key) for key in state):
            return name
    return None
