"""Enhance the faces of photographs: models, pipeline, training."""

from hf_faceenh.image_processor import FaceImageProcessor
from hf_faceenh.models import (
    FaceDetector,
    FaceDiscriminator,
    FaceEnhancer,
    GPENFaceEnhancer,
    SuperResolver,
)
from hf_faceenh.pipeline import EnhancedFace, FaceEnhanceOutput, FaceEnhancePipeline

__all__ = [
    "EnhancedFace",
    "FaceDetector",
    "FaceDiscriminator",
    "FaceEnhanceOutput",
    "FaceEnhancePipeline",
    "FaceEnhancer",
    "FaceImageProcessor",
    "GPENFaceEnhancer",
    "SuperResolver",
]
