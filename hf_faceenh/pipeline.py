"""FaceEnhancePipeline: the way of one photograph, told from top to bottom."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from transformers import PreTrainedModel

from hf_faceenh.alignment import for_upscaled
from hf_faceenh.arguments import check_call
from hf_faceenh.binding import bind, worth
from hf_faceenh.enhancing import enhance, parse
from hf_faceenh.faces import EnhancedFace, Limits, choices, choose, find_faces, measured, whole_picture
from hf_faceenh.fusion import face_labels, face_mask, fuse
from hf_faceenh.models import FaceDetector, SuperResolver
from hf_faceenh.pictures import FaceImageProcessor, ImageInfo, LoadedImage, Picture
from hf_faceenh.pictures.output import check_output_type
from hf_faceenh.progress import Tally
from hf_faceenh.serialization import SavedPipelineMixin
from hf_faceenh.upscaling import ShownFaces, Upscaler
from hf_faceenh.window import PIXELS, Face, Photograph, walk


@dataclass
class FaceEnhanceOutput(BaseOutput):
    """What `FaceEnhancePipeline` returns.

    Args:
        images: the results, in the order of the inputs, each as its input was (mode, alpha): a list of PIL pictures,
            of float32 `HxWxC` arrays or of `[C, H, W]` tensors in [0, 1], by `output_type`.
        faces: for every picture its faces, highest score first.
    """

    images: list[Image.Image] | list[np.ndarray] | list[torch.Tensor]
    faces: list[list[EnhancedFace]]


class FaceEnhancePipeline(SavedPipelineMixin, DiffusionPipeline):
    """Enhances the faces of photographs, and super-resolves the rest.

    Args:
        enhancer: `FaceEnhancer`, `GPENFaceEnhancer`, or any model that maps `[B, 3, S, S]` in [-1, 1] to the same and
            has `config.sample_size` = S.
        parser: any `transformers` semantic-segmentation model whose `config.id2label` uses CelebAMask-HQ's words.
            `config.sample_size` is its input's side (512 if absent); the input is ImageNet-normalised.
        detector: `FaceDetector`; not needed for faces that come aligned.
        super_resolver: `SuperResolver`; without it, pictures are upscaled with bicubic interpolation.
        image_processor: reads and gives back pictures; `FaceImageProcessor()` by default.

    Example:
        ```python
        from hf_faceenh import FaceEnhancePipeline

        pipe = FaceEnhancePipeline.from_pretrained()  # the bundled one
        output = pipe("old.jpg", upscale=2)
        output.images[0].save("new.png")
        for face in output.faces[0]:
            print(face.box, face.left_alone or "enhanced")
        ```
    """

    model_cpu_offload_seq = "detector->super_resolver->enhancer->parser"
    _optional_components = ["detector", "super_resolver", "image_processor"]

    def __init__(
        self,
        enhancer: torch.nn.Module,
        parser: PreTrainedModel,
        detector: FaceDetector | None = None,
        super_resolver: SuperResolver | None = None,
        image_processor: FaceImageProcessor | None = None,
    ):
        super().__init__()
        self.register_modules(
            enhancer=enhancer.to(memory_format=torch.channels_last),  # like its faces: a quarter faster on a CPU
            parser=parser,
            detector=detector,
            super_resolver=super_resolver,
            image_processor=image_processor or FaceImageProcessor(),
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Picture | LoadedImage | Sequence[Picture | LoadedImage],
        upscale: int = 2,
        strength: float = 1.0,
        aligned: bool = False,
        restore_background: bool = True,
        min_face_size: float = 32,
        max_face_size: float | None = None,
        max_faces: int | None = None,
        only_faces: Sequence[Sequence[int]] | None = None,
        detection_threshold: float = 0.5,
        face_batch_size: int = 8,
        tile_size: int = 512,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: Callable[[str, int, int], None] | None = None,
    ) -> FaceEnhanceOutput | tuple[list, list]:
        """
        Args:
            image: one picture or several of any sizes; see `FaceImageProcessor.load` for the kinds.
            upscale: how many times larger the result is: 1, 2 or 4.
            strength: 1 takes the enhanced face, 0 the photograph's own; in between a mixture.
            aligned: the pictures are square, aligned crops of one face each: the result is the enhanced crop, of side
                `sample_size` × `upscale` (or, left alone, of the crop's side × `upscale`).
            restore_background: whether what is not face goes through the super-resolver, or only bicubic
                interpolation.
            min_face_size: a face whose aligned crop, about twice the face's height, has a smaller side in px of the
                photograph is left alone.
            max_face_size: likewise one with a larger side. By default a face's detail decides, however many pixels it
                has: one that has more than fits into the enhancer's `sample_size` is left alone, unless it came as
                an aligned crop, whose caller chose. `float("inf")` enhances all.
            max_faces: enhance only so many, the largest, of each picture.
            only_faces: for every picture the faces to enhance, by their indices in the output's `faces`; all by
                default.
            detection_threshold: the lowest score that makes a face, in [0, 1].
            face_batch_size: faces that go through enhancer and parser at once.
            tile_size: side in px of the tiles that go through the super-resolver one by one.
            output_type: "pil", "np" or "pt".
            return_dict: return a `FaceEnhanceOutput`; else a tuple of its two entries.
            callback: called as `callback(stage, done, total)` when a stage begins and after each of its steps:
                "detecting" counts pictures, "super-resolving" the tiles of one picture, "enhancing" the faces of all
                pictures, "fusing" the faces of one picture. With several pictures the last three take turns. To cancel
                the call, let it raise.

        Raises:
            ValueError, TypeError, OSError: with one line: what is wrong, what was expected, what to do; among them
                `faces.FaceChoiceError` for `only_faces`.
        """
        # 0. Check inputs
        check_call(upscale, strength, min_face_size, max_faces, detection_threshold, face_batch_size, tile_size)
        check_output_type(output_type)
        self._prepare_models(aligned)
        device, size = self._execution_device, self.enhancer.config.sample_size
        by_detail = max_face_size is None and not aligned  # else the caller chose
        limits = Limits(min_face_size, max_face_size, max_faces, max_detail=size if by_detail else None)
        upscaler = Upscaler(self.super_resolver, tile_size)
        around = upscaler if restore_background else Upscaler(None, tile_size)  # for what is not face
        show = partial(self._show, output_type=output_type)
        report = callback or (lambda stage, done, total: None)

        # 1. Read the pictures
        pictures = self.image_processor.load_all(image)
        photographs = deque(Photograph(picture, aligned) for picture in pictures)  # pixels [3, H, W] each
        asked_for = choices(only_faces, len(pictures))
        del pictures  # `photographs` alone holds them, each until it is done

        # 2. Find and align the faces, and choose those to enhance
        find = whole_picture if aligned else partial(find_faces, self.detector, threshold=detection_threshold)
        found = Tally(partial(report, "detecting"), len(photographs))
        for photograph, only in zip(photographs, asked_for, strict=True):
            found.begin()
            faces, photograph.transforms = find(photograph.pixels.to(device), size=size)  # [N, 2, 3]
            photograph.faces = choose(measured(faces, photograph.pixels), only, limits)
            found.add()

        tiles = sum(around.tile_count(*one.pixels.shape[1:], upscale) for one in photographs if not one.is_crop)
        total = sum(len(one.wanted) for one in photographs)
        images, records = [], []
        with self.progress_bar(total=tiles + total) as bar:
            enhanced = Tally(partial(report, "enhancing"), total)

            def on_tile(done: int, of: int) -> None:
                bar.update(min(done, 1))
                report("super-resolving", done, of)

            # 3. Super-resolve each picture
            def super_resolve(photograph: Photograph) -> None:
                photograph.pixels = photograph.pixels.to(device)
                if not photograph.is_crop:
                    photograph.upscaled = around(photograph.pixels, upscale, on_tile)  # [3, uH, uW]
                photograph.show_left_alone(size, show)
                enhanced.begin()

            # 4. Crop, enhance and parse the faces; those of several pictures may share a batch
            def work_on(batch: Sequence[Face]) -> None:
                crops = torch.cat([photograph.crop(index, size) for photograph, index in batch])  # [B, 3, S, S]
                faces = enhance(self.enhancer, crops)  # [B, 3, S, S]
                probabilities = parse(self.parser, faces)  # [B, L, S, S]
                labels = probabilities.argmax(dim=1).to(torch.uint8)  # [B, S, S]
                masks = strength * face_mask(probabilities, face_labels(self.parser.config.id2label))  # [B, 1, S, S]
                if by_detail:
                    sizes = [(face.size, face.detail) for face in (one.faces[index] for one, index in batch)]
                    masks, faces = worth(faces, crops, masks, sizes), bind(faces, crops, masks, sizes)
                for (photograph, index), *made in zip(batch, crops, faces, labels, masks, strict=True):
                    photograph.add(index, *made, show)
                bar.update(len(batch))
                enhanced.add(len(batch))

            for photograph in walk(photographs, super_resolve, work_on, face_batch_size, PIXELS // upscale**2):
                # 5. Fuse
                if photograph.is_crop:
                    result = self._blend(photograph, upscale, strength, upscaler, report)  # [3, uS, uS]
                else:
                    result = self._fuse(photograph, upscale, upscaler, report)  # [3, uH, uW]

                # 6. Give back
                records.append(photograph.records(show))  # first: they need less memory than the tensors they are from
                images.append(self.image_processor.to_output(result, photograph.picture, output_type))
                del photograph, result  # a result may have a gigabyte: it must not wait for the next one

        self.maybe_free_model_hooks()
        if not return_dict:
            return images, records
        return FaceEnhanceOutput(images=images, faces=records)

    def _prepare_models(self, aligned: bool) -> None:
        if self.detector is None and not aligned:
            raise ValueError(
                "The pipeline has no detector, so it cannot find faces. Pass aligned=True for aligned crops, or load "
                "the pipeline with a detector."
            )
        for name in ("enhancer", "parser", "detector", "super_resolver"):
            model = getattr(self, name)
            if model is None:
                continue
            model.eval()
            if model.dtype == torch.float16 and self._execution_device.type == "cpu":
                raise ValueError(
                    f"A CPU does not compute well in float16, and the {name} is in float16. Load the pipeline with "
                    "dtype=torch.float32, or move it to a GPU."
                )

    def _fuse(self, photograph: Photograph, upscale: int, upscaler: Upscaler, report: Callable) -> torch.Tensor:
        """A photograph with its enhanced faces, `[3, uH, uW]`; in place of `upscaled`."""
        transforms = photograph.transforms[photograph.wanted]  # [n, 2, 3]
        fused = Tally(partial(report, "fusing"), len(transforms))
        fused.begin()
        faces = ShownFaces(photograph.enhanced_face, transforms, upscale, upscaler, fused.add)
        to_unit = for_upscaled(transforms, upscale) / self.enhancer.config.sample_size  # px of the result → side 1
        return fuse(photograph.upscaled, faces, photograph.masks, list(to_unit))

    def _blend(
        self, photograph: Photograph, upscale: int, strength: float, upscaler: Upscaler, report: Callable
    ) -> torch.Tensor:
        """An aligned crop's one face, `[3, uS, uS]`."""
        (crop,) = photograph.crop(0, self.enhancer.config.sample_size)
        blend = crop + strength * (photograph.enhanced_face(0) - crop)  # [3, S, S]
        return upscaler.enhanced_face(blend, upscale, partial(report, "super-resolving"))

    def _show(self, pixels: torch.Tensor, output_type: str) -> Image.Image | np.ndarray | torch.Tensor:
        """A face of a record, `[3, S, S]`, as the caller wants it."""
        return self.image_processor.to_output(pixels, LoadedImage(pixels, None, ImageInfo()), output_type)
