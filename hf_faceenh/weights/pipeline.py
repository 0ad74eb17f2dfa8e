from hf_faceenh import FaceEnhancePipeline  # noqa: F401  (pip install hf-faceenh)
