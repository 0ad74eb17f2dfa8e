"""FaceImageProcessor as a component of a pipeline."""

from diffusers import DiffusionPipeline

from hf_faceenh.pictures import FaceImageProcessor


class TinyPipeline(DiffusionPipeline):
    def __init__(self, image_processor: FaceImageProcessor):
        super().__init__()
        self.register_modules(image_processor=image_processor)


def test_a_pipeline_saves_and_loads_it(tmp_path):
    TinyPipeline(FaceImageProcessor(max_pixels=1234, formats=["PNG"])).save_pretrained(tmp_path)
    loaded = TinyPipeline.from_pretrained(tmp_path)
    assert type(loaded.image_processor) is FaceImageProcessor
    assert loaded.image_processor.max_pixels == 1234 and loaded.image_processor.formats == ["PNG"]
    assert FaceImageProcessor.from_pretrained(tmp_path / "image_processor", max_pixels=5).max_pixels == 5
