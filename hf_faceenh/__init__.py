"""Enhance the faces of photographs: models, pipeline, training."""

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_faceenh.faces import EnhancedFace
    from hf_faceenh.image_processor import FaceImageProcessor
    from hf_faceenh.models import (
        FaceDetector,
        FaceDiscriminator,
        FaceEnhancer,
        FaceRecognizer,
        GPENFaceEnhancer,
        SuperResolver,
    )
    from hf_faceenh.pipeline import FaceEnhanceOutput, FaceEnhancePipeline

__all__ = [
    "EnhancedFace",
    "FaceDetector",
    "FaceDiscriminator",
    "FaceEnhanceOutput",
    "FaceEnhancePipeline",
    "FaceEnhancer",
    "FaceImageProcessor",
    "FaceRecognizer",
    "GPENFaceEnhancer",
    "SuperResolver",
]

_HOMES = {
    "EnhancedFace": "faces",
    "FaceEnhanceOutput": "pipeline",
    "FaceEnhancePipeline": "pipeline",
    "FaceImageProcessor": "image_processor",
}


def __getattr__(name: str):
    # Imported when first asked for: `hf-faceenh --help` need not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'models')}"), name)


_AUTO = "transformers.models.auto.modeling_auto"


class _AutoModelFinder:
    """Imports our networks as soon as transformers' Auto classes are imported: they must know the recognizer."""

    def find_spec(self, name: str, path=None, target=None):
        if name != _AUTO:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            importlib.import_module(f"{__name__}.models")

        spec.loader.exec_module = exec_module
        return spec


if _AUTO in sys.modules:
    importlib.import_module(f"{__name__}.models")
else:
    sys.meta_path.insert(0, _AutoModelFinder())
