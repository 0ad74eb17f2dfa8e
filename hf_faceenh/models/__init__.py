"""The networks, one file each, every one with `from_pretrained` and `save_pretrained`."""

from hf_faceenh.models.auto import load_enhancer, load_transformers
from hf_faceenh.models.codeformer import CodeFormerFaceEnhancer
from hf_faceenh.models.detector import FaceDetections, FaceDetector, FaceDetectorOutput
from hf_faceenh.models.discriminator import FaceDiscriminator
from hf_faceenh.models.enhancer import FaceEnhancer
from hf_faceenh.models.face_network import FaceEnhancerOutput
from hf_faceenh.models.gfpgan import GFPGANFaceEnhancer
from hf_faceenh.models.gpen import GPENFaceEnhancer
from hf_faceenh.models.recognizer import FaceRecognizer, FaceRecognizerConfig, FaceRecognizerOutput
from hf_faceenh.models.restoreformer import RestoreFormerFaceEnhancer
from hf_faceenh.models.super_resolver import SuperResolver, SuperResolverOutput

__all__ = [
    "CodeFormerFaceEnhancer",
    "FaceDetections",
    "FaceDetector",
    "FaceDetectorOutput",
    "FaceDiscriminator",
    "FaceEnhancer",
    "FaceEnhancerOutput",
    "FaceRecognizer",
    "FaceRecognizerConfig",
    "FaceRecognizerOutput",
    "GFPGANFaceEnhancer",
    "GPENFaceEnhancer",
    "RestoreFormerFaceEnhancer",
    "SuperResolver",
    "SuperResolverOutput",
    "load_enhancer",
    "load_transformers",
]
