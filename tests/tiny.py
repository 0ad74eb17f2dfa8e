"""Small untrained models, for tests that are about everything else."""

import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from hf_faceenh import CodeFormerFaceEnhancer, FaceEnhancePipeline, FaceEnhancer, SuperResolver

REGIONS = "background skin nose l_eye r_eye l_brow r_brow mouth u_lip l_lip".split()
# A FaceEnhancer's config with enough channels to be reduced.
SMALL = {
    "sample_size": 32,
    "encoder_channels": [[8], [8, 8], [16, 16], [16, 16]],
    "mapping_channels": [16, 16],
    "constant_channels": 16,
    "decoder_channels": [[16, 16], [16, 16], [8, 8], [8, 8]],
}


def tiny_enhancer(size: int = 256) -> FaceEnhancer:
    torch.manual_seed(0)
    resolutions = size.bit_length() - 2
    return FaceEnhancer(
        sample_size=size,
        encoder_channels=[[4]] + [[4, 4]] * (resolutions - 1),
        mapping_channels=[8, 8],
        constant_channels=4,
        decoder_channels=[[4, 4]] * resolutions,
    )


def tiny_codeformer(size: int = 64) -> CodeFormerFaceEnhancer:
    torch.manual_seed(0)
    return CodeFormerFaceEnhancer(
        sample_size=size,
        channels=(32, 32),
        code_channels=8,
        codes=16,
        width=8,
        layers=1,
        fused_resolutions=(size,),
    ).eval()


def tiny_parser(names: list[str] = REGIONS, **config) -> SegformerForSemanticSegmentation:
    """Untrained, but sees skin everywhere."""
    torch.manual_seed(0)
    parser = SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 1, 1],
            decoder_hidden_size=16,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
            sample_size=64,
            **config,
        )
    )
    with torch.no_grad():
        parser.decode_head.classifier.bias[names.index("skin")] = 20
    return parser


def tiny_pipeline(bundled: FaceEnhancePipeline, **components) -> FaceEnhancePipeline:
    """The real detector, the rest small and untrained."""
    torch.manual_seed(0)
    defaults = {
        "enhancer": tiny_enhancer(),
        "parser": tiny_parser(),
        "detector": bundled.detector,
        "super_resolver": SuperResolver(num_feat=4, num_conv=1),
    }
    pipe = FaceEnhancePipeline(**defaults | components)
    pipe.set_progress_bar_config(disable=True)
    return pipe
