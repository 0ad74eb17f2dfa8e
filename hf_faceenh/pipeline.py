"""FaceEnhancePipeline: the way of one photograph, told from top to bottom."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from hf_faceenh.colours import bind_colours
from hf_faceenh.denoising import check_denoise, super_resolvers_share, with_less_grain
from hf_faceenh.enhancing import check_fidelity, enhance, parse
from hf_faceenh.faces import EnhancedFace, Limits, choices, choose, find_faces, measured, whole_picture
from hf_faceenh.fusion import Regions, coverage, fuse, region_mask
from hf_faceenh.graining import match_grain
from hf_faceenh.likeness import IDENTITY_LIMIT, keep_likeness
from hf_faceenh.models import FaceDetector, FaceRecognizer, SuperResolver
from hf_faceenh.models.soundness import check_result
from hf_faceenh.pictures import FaceImageProcessor, ImageInfo, LoadedImage, Picture
from hf_faceenh.pictures.output import check_output_type
from hf_faceenh.progress import Tally
from hf_faceenh.recognition import check_recognizer
from hf_faceenh.serialization import SavedPipelineMixin
from hf_faceenh.strength import Strength
from hf_faceenh.upscaling import ShownFaces, Upscaler
from hf_faceenh.window import DECODED, PIXELS, Face, Photograph, walk


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
        enhancer: `FaceEnhancer`, one of the published ones (`GPENFaceEnhancer`, `GFPGANFaceEnhancer`,
            `CodeFormerFaceEnhancer`, `RestoreFormerFaceEnhancer`), or any model that maps `[B, 3, S, S]` in [-1, 1] to
            the same and has `config.sample_size` = S. One with `config.fidelity` takes `fidelity`.
        parser: any `transformers` semantic-segmentation model whose `config.id2label` uses CelebAMask-HQ's words.
            `config.sample_size` is its input's side (512 if absent); the input is ImageNet-normalised.
        detector: `FaceDetector`; not needed for faces that come aligned.
        super_resolver: `SuperResolver`; without it, pictures are upscaled with bicubic interpolation.
        image_processor: reads and gives back pictures; `FaceImageProcessor()` by default.
        recognizer: tells whether an enhanced face is still of the same person; without it, nobody looks.

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

    model_cpu_offload_seq = "detector->super_resolver->enhancer->parser->recognizer"
    _optional_components = ["detector", "super_resolver", "image_processor", "recognizer"]

    def __init__(
        self,
        enhancer: torch.nn.Module,
        parser: PreTrainedModel,
        detector: FaceDetector | None = None,
        super_resolver: SuperResolver | None = None,
        image_processor: FaceImageProcessor | None = None,
        recognizer: FaceRecognizer | None = None,
    ):
        super().__init__()
        self.register_modules(
            enhancer=enhancer.to(memory_format=torch.channels_last),  # like its faces: a quarter faster on a CPU
            parser=parser,
            detector=detector,
            super_resolver=super_resolver and super_resolver.to(memory_format=torch.channels_last),
            image_processor=image_processor or FaceImageProcessor(),
            recognizer=recognizer and recognizer.to(memory_format=torch.channels_last),
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Picture | LoadedImage | Sequence[Picture | LoadedImage],
        upscale: int = 2,
        strength: Strength = 1.0,
        aligned: bool = False,
        restore_background: bool = True,
        min_face_size: float = 32,
        max_face_size: float | None = None,
        max_faces: int | None = None,
        only_faces: Sequence[Sequence[int]] | None = None,
        detection_threshold: float = 0.5,
        face_batch_size: int = 8,
        tile_size: int = 512,
        identity_limit: float | None = None,
        grain: float | None = None,
        denoise: float | None = None,
        fidelity: float | None = None,
        regions: Regions = "head",
        output_type: str = "pil",
        face_pictures: bool = True,
        return_dict: bool = True,
        callback: Callable[[str, int, int], None] | None = None,
    ) -> FaceEnhanceOutput | tuple[list, list]:
        """
        Args:
            image: one picture or several of any sizes; see `FaceImageProcessor.load` for the kinds. Of a long list of
                large ones (`window.DECODED`) some are read twice, so that not all are in memory at once.
            upscale: how many times larger the result is: 1, 2 or 4.
            strength: 1 takes the enhanced face, 0 the photograph's own; in between a mixture. Or a function that gives
                it for each face, `strength(face)` with the face's `EnhancedFace` record (its pictures are not there
                yet).
            aligned: the pictures are square, aligned crops of one face each: the result is the enhanced crop, of side
                `sample_size` × `upscale` (or, left alone, of the crop's side × `upscale`).
            restore_background: whether what is not face goes through the super-resolver, or only bicubic
                interpolation.
            min_face_size: a face whose aligned crop, about twice the face's height, has a smaller side in px of the
                photograph is left alone; in a large photograph it may not be found. The larger it is, the less time
                the search takes.
            max_face_size: likewise one with a larger side. By default a face's detail decides, however many pixels it
                has: one that has more than fits into the enhancer's `sample_size` is left alone, unless it came as
                an aligned crop, whose caller chose. `float("inf")` enhances all.
            max_faces: enhance only so many, the largest, of each picture.
            only_faces: for every picture the faces to enhance, by their indices in the output's `faces` (at the same
                `min_face_size`); all by default.
            detection_threshold: the lowest score that makes a face, in [0, 1].
            face_batch_size: faces that go through enhancer and parser at once.
            tile_size: side in px of the tiles that go through the super-resolver one by one.
            identity_limit: how different from the face that came in the pipeline's recognizer may find the face in the
                result: where it is too different, its strength is lowered step by step, and if that is not enough it
                is left alone. By default `likeness.IDENTITY_LIMIT`, if there is a recognizer. `float("inf")`
                enhances all.
            grain: how much of the photograph's own grain the result has, on faces and around them: 0 as little as can
                be, 1 all of it. By default what is around the faces keeps what it has, and the faces get as much.
                Pictures without grain never get any; not for aligned crops.
            denoise: how much of the photograph's noise and grain the super-resolver takes out while it upscales: 1 all
                of it, 0 none. By default the more the noisier the photograph is, or with `grain` what is not wanted of
                that: `grain` says how much the result has in the end, and lays over what is missing. Blur and the
                damage of compression go in any case. Not for aligned crops, nor for super-resolvers without
                `config.denoising`.
            fidelity: how much an enhancer with such a dial keeps to the degraded face, in [0, 1]: 0 trusts what it
                has learned of faces, and is the sharpest; 1 trusts the photograph. By default the enhancer's own,
                `config.fidelity`; only with an enhancer that has it, such as `CodeFormerFaceEnhancer`.
            regions: what is taken of an enhanced face: "head", with hair, beard, ears, hat and glasses, or "face",
                which ends at the hairline. Of a parser without such regions, always the face.
            output_type: "pil", "np", "pt", or "deep": as "pil", but 16-bit colour as uint16 `HxWxC`.
            face_pictures: whether the records of the faces have `crop`, `enhanced`, `parsing` and `mask`; at 512 px
                they take 3.4 MB a face.
            return_dict: return a `FaceEnhanceOutput`; else a tuple of its two entries.
            callback: called as `callback(stage, done, total)` when a stage begins and after each of its steps:
                "detecting" counts pictures (it is also called before every closer look at one), "super-resolving" the
                tiles of one picture, "enhancing" the faces of all pictures, "fusing" the faces of one picture. With
                several pictures the last three take turns. To cancel the call, let it raise.

        Raises:
            ValueError, TypeError, OSError: with one line: what is wrong, what was expected, what to do; among them
                `faces.FaceChoiceError` for `only_faces`.
        """
        # 0. Check inputs
        check_call(
            upscale,
            strength,
            min_face_size,
            max_faces,
            detection_threshold,
            face_batch_size,
            tile_size,
            identity_limit,
            grain,
            denoise,
            fidelity,
            regions,
            aligned,
        )
        check_output_type(output_type)
        self._prepare_models(aligned, identity_limit)
        device, size = self._execution_device, self.enhancer.config.sample_size
        by_detail = max_face_size is None and not aligned  # else the caller chose
        limits = Limits(min_face_size, max_face_size, max_faces, max_detail=size if by_detail else None)
        identity_limit = IDENTITY_LIMIT if identity_limit is None else identity_limit
        upscaler = Upscaler(self.super_resolver, tile_size)
        check_denoise(denoise, self.super_resolver)
        check_fidelity(fidelity, self.enhancer)
        around = Upscaler(self.super_resolver if restore_background else None, tile_size)  # for what is not face
        show = partial(self._show, output_type=output_type) if face_pictures else None
        report = callback or (lambda stage, done, total: None)

        pictures = self.image_processor.separate(image)
        asked_for = choices(only_faces, len(pictures))
        found = Tally(partial(report, "detecting"), len(pictures))
        search = partial(find_faces, self.detector, threshold=detection_threshold, min_size=min_face_size)
        find = whole_picture if aligned else partial(search, on_look=lambda: found.add(0))
        photographs, decoded = deque(), 0
        for picture, only in zip(pictures, asked_for, strict=True):
            # 1. Read a picture
            found.begin()
            read = self.image_processor.reader(picture)
            photograph = Photograph(read(), aligned)
            photographs.append(photograph)

            # 2. Find and align its faces, and choose those to enhance
            pixels = photograph.seen()  # [3, H, W]
            faces, photograph.transforms = find(pixels.to(device), size=size)  # [N, 2, 3]
            photograph.faces = choose(measured(faces, pixels), only, limits)
            found.add()
            if len(pictures) > 1 and decoded + photograph.area > DECODED:
                photograph.put_away(read)
            else:
                decoded += photograph.area
            del pixels, photograph  # `photographs` alone holds them, each until it is done

        tiles = sum(around.tile_count(*one.shape, upscale) for one in photographs if not one.is_crop)
        total = sum(len(one.wanted) for one in photographs)
        images, records = [], []
        with self.progress_bar(total=tiles + total) as bar:
            enhanced = Tally(partial(report, "enhancing"), total)

            def on_tile(done: int, of: int) -> None:
                bar.update(min(done, 1))
                report("super-resolving", done, of)

            def upscaled(photograph: Photograph) -> torch.Tensor:
                pixels = with_less_grain(photograph.pixels, grain)  # [3, H, W]
                share = super_resolvers_share(photograph.pixels, denoise, grain, around.super_resolver)
                return replace(around, denoise=share)(pixels, upscale, on_tile)  # [3, uH, uW]

            # 3. Super-resolve each picture
            def super_resolve(photograph: Photograph) -> None:
                photograph.begin(device)
                if not photograph.is_crop:
                    photograph.upscaled = upscaled(photograph)
                photograph.show_left_alone(size, show)
                enhanced.begin()

            # 4. Crop, enhance and parse the faces; those of several pictures may share a batch
            def work_on(batch: Sequence[Face]) -> None:
                crops = torch.cat([photograph.crop(index, size) for photograph, index in batch])  # [B, 3, S, S]
                faces = enhance(self.enhancer, crops, fidelity)  # [B, 3, S, S]
                probabilities = parse(self.parser, faces)  # [B, L, S, S]
                labels = probabilities.max(dim=1).indices.to(torch.uint8)  # [B, S, S]; argmax is slower
                faces = bind_colours(faces, crops, labels, self.parser.config.id2label)  # [B, 3, S, S]
                masks = region_mask(probabilities, self.parser.config.id2label, regions)  # [B, 1, S, S]
                if by_detail:
                    sizes = [(face.size, face.detail) for face in (one.faces[index] for one, index in batch)]
                    masks, faces = worth(faces, crops, masks, sizes), bind(faces, crops, masks, sizes)
                strengths = [photograph.decide_strength(index, strength) for photograph, index in batch]
                if self.recognizer is not None:
                    shares = torch.ones_like(masks) if aligned else masks  # a crop's result is all of the face
                    likenesses = keep_likeness(self.recognizer, crops, faces, shares, strengths, identity_limit)
                    strengths = [
                        photograph.judge(index, likeness, identity_limit)
                        for (photograph, index), likeness in zip(batch, likenesses, strict=True)
                    ]
                masks *= masks.new_tensor(strengths)[:, None, None, None]
                for (photograph, index), *made in zip(batch, crops, faces, labels, masks, strict=True):
                    photograph.add(index, *made, upscale, show)
                bar.update(len(batch))
                enhanced.add(len(batch))

            for photograph in walk(photographs, super_resolve, work_on, face_batch_size, PIXELS // upscale**2):
                # 5. Fuse
                if photograph.is_crop:
                    result = self._blend(photograph, upscale, upscaler, report)  # [3, uS, uS]
                else:
                    if photograph.upscaled is None:  # an aligned crop that was left alone after all
                        photograph.upscaled = upscaled(photograph)
                    result = self._fuse(photograph, upscale, upscaler, report)  # [3, uH, uW]
                    result = self._match_grain(result, photograph, grain)

                # 6. Give back
                check_result(result)
                result = photograph.toned(result)
                records.append(photograph.faces)
                images.append(self.image_processor.to_output(result, photograph.picture, output_type))
                del photograph, result  # a result may have a gigabyte: it must not wait for the next one

        self.maybe_free_model_hooks()
        if not return_dict:
            return images, records
        return FaceEnhanceOutput(images=images, faces=records)

    def _prepare_models(self, aligned: bool, identity_limit: float | None) -> None:
        if self.detector is None and not aligned:
            raise ValueError(
                "The pipeline has no detector, so it cannot find faces. Pass aligned=True for aligned crops, or load "
                "the pipeline with a detector."
            )
        if self.recognizer is not None:
            check_recognizer(self.recognizer)
        elif identity_limit not in (None, float("inf")):
            raise ValueError(
                "The pipeline has no recognizer, so it cannot keep to an identity_limit. Leave it out, or load the "
                "pipeline with a recognizer."
            )
        for name in ("enhancer", "parser", "detector", "super_resolver", "recognizer"):
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

    def _match_grain(self, result: torch.Tensor, photograph: Photograph, grain: float | None) -> torch.Tensor:
        """The result with the grain that is wanted on faces and around them, `[3, uH, uW]`; in its place."""
        to_unit = photograph.transforms[photograph.wanted] / self.enhancer.config.sample_size

        def inside(rows: torch.Tensor, top: int, factor: float) -> torch.Tensor:
            return coverage(photograph.masks, list(for_upscaled(to_unit, factor)), rows, top)

        return match_grain(result, photograph.pixels, inside, grain)

    def _blend(self, photograph: Photograph, upscale: int, upscaler: Upscaler, report: Callable) -> torch.Tensor:
        """An aligned crop's one face, `[3, uS, uS]`."""
        (crop,) = photograph.crop(0, self.enhancer.config.sample_size)
        blend = crop + photograph.faces[0].strength * (photograph.enhanced_face(0) - crop)  # [3, S, S]
        return upscaler.enhanced_face(blend, upscale, partial(report, "super-resolving"))

    def _show(self, pixels: torch.Tensor, output_type: str) -> Image.Image | np.ndarray | torch.Tensor:
        """A face of a record, `[3, S, S]`, as the caller wants it."""
        return self.image_processor.to_output(pixels, LoadedImage(pixels, None, ImageInfo()), output_type)
