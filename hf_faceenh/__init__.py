"""Enhance the faces of photographs: models, pipeline, training."""

import importlib
from typing import TYPE_CHECKING

from hf_faceenh.registration import register_when_needed

if TYPE_CHECKING:
    from hf_faceenh.faces import EnhancedFace
    from hf_faceenh.models import (
        CodeFormerFaceEnhancer,
        FaceDetector,
        FaceDiscriminator,
        FaceEnhancer,
        FaceRecognizer,
        GFPGANFaceEnhancer,
        GPENFaceEnhancer,
        RestoreFormerFaceEnhancer,
        SuperResolver,
    )
    from hf_faceenh.pictures import FaceImageProcessor
    from hf_faceenh.pipeline import FaceEnhanceOutput, FaceEnhancePipeline

__all__ = [
    "CodeFormerFaceEnhancer",
    "EnhancedFace",
    "FaceDetector",
    "FaceDiscriminator",
    "FaceEnhanceOutput",
    "FaceEnhancePipeline",
    "FaceEnhancer",
    "FaceImageProcessor",
    "FaceRecognizer",
    "GFPGANFaceEnhancer",
    "GPENFaceEnhancer",
    "RestoreFormerFaceEnhancer",
    "SuperResolver",
]

_HOMES = {
    "EnhancedFace": "faces",
    "FaceEnhanceOutput": "pipeline",
    "FaceEnhancePipeline": "pipeline",
    "FaceImageProcessor": "pictures",
}


def __getattr__(name: str):
    # Imported when first asked for: `hf-faceenh --help` need not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'models')}"), name)


register_when_needed()
