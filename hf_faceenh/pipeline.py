"""FaceEnhancePipeline: the way of one photograph, top to bottom."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES
from diffusers.utils import BaseOutput, logging
from PIL import Image
from transformers import PreTrainedModel

from hf_faceenh.alignment import crop_faces, for_upscaled, scale_of, similarity_transform
from hf_faceenh.fusion import face_labels, face_mask, fuse
from hf_faceenh.models import FaceDetections, FaceDetector, FaceEnhancer, GPENFaceEnhancer, SuperResolver
from hf_faceenh.pictures import FaceImageProcessor, ImageInfo, LoadedImage, Picture
from hf_faceenh.tiling import tile_count, tiled

logger = logging.get_logger(__name__)

T = TypeVar("T")

BUNDLED = Path(__file__).parent / "weights"
UPSCALES = (1, 2, 4)
OUTPUT_TYPES = ("pil", "np", "pt")
# A face with more pixels than the enhancer gives would lose by it; this much more is made up for by what it restores.
LARGEST_FACE = 1.25
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Our components and their modules. diffusers downloads a component only if it knows its module or finds code for it.
OURS = {kind.__name__: kind.__module__ for kind in (FaceEnhancer, GPENFaceEnhancer, FaceDetector, SuperResolver)}
OURS[FaceImageProcessor.__name__] = FaceImageProcessor.__module__
LOADABLE_CLASSES.update({module: {} for module in OURS.values()})
# What DiffusionPipeline.from_pretrained(folder, trust_remote_code=True) of plain diffusers finds in a saved folder for
# the pipeline and for each of our components.
MODULE = """\
try:
    from hf_faceenh import {name}  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(f"This model needs the package hf-faceenh ({{error}}): pip install hf-faceenh") from None
"""


@dataclass(frozen=True, slots=True, eq=False)
class EnhancedFace:
    """One face of a photograph, and what was done to it.

    Args:
        box: x1, y1, x2, y2 in px of the photograph.
        landmarks: `[5, 2]` (x, y) px of the photograph: image-left eye, image-right eye, nose, image-left and
            image-right mouth corner; `None` for a crop that came aligned.
        score: the detector's, in [0, 1].
        transform: `[2, 3]`, px of the photograph → px of the crop.
        size: side of the crop in px of the photograph.
        crop: the aligned face as the enhancer saw it, of side `sample_size`, in the call's `output_type`.
        enhanced: the same, enhanced; `None` if it was left alone.
        parsing: label id of every pixel of `enhanced`, `[S, S]` uint8, ids as in `parser.config.id2label`.
        mask: how much of each pixel went into the result, `[S, S]` float32 in [0, 1].
        left_alone: why the face was not enhanced; `None` if it was.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray | None
    score: float
    transform: np.ndarray
    size: float
    crop: Image.Image | np.ndarray | torch.Tensor | None = None
    enhanced: Image.Image | np.ndarray | torch.Tensor | None = None
    parsing: np.ndarray | None = None
    mask: np.ndarray | None = None
    left_alone: str | None = None


@dataclass
class FaceEnhanceOutput(BaseOutput):
    """What `FaceEnhancePipeline` returns.

    Args:
        images: the results, in the order of the inputs, each as its input was (mode, alpha): a list of PIL pictures,
            of float32 `HxWxC` arrays or of `[C, H, W]` tensors in [0, 1], by `output_type`.
        faces: for every picture its faces, largest score first.
    """

    images: list[Image.Image] | list[np.ndarray] | list[torch.Tensor]
    faces: list[list[EnhancedFace]]


class FaceEnhancePipeline(DiffusionPipeline):
    """Enhances the faces of photographs, and super-resolves the rest.

    Args:
        enhancer: `FaceEnhancer`, `GPENFaceEnhancer`, or any model that maps `[B, 3, S, S]` in [-1, 1] to the same and
            has `config.sample_size` = S.
        parser: any `transformers` semantic-segmentation model whose `config.id2label` uses CelebAMask-HQ's words.
            `config.sample_size` is its input's side (512 if absent); the input is ImageNet-normalised.
        detector: `FaceDetector`; not needed for faces that come aligned.
        super_resolver: `SuperResolver`; without it, pictures are enlarged with bicubic interpolation.
        image_processor: reads and gives back pictures; `FaceImageProcessor()` by default.
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
            enhancer=enhancer.to(memory_format=torch.channels_last),  # as its faces: a quarter faster on a CPU
            parser=parser,
            detector=detector,
            super_resolver=super_resolver,
            image_processor=image_processor or FaceImageProcessor(),
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None = None, **kwargs):
        """As in diffusers; without a name, the bundled pipeline. Float32 unless `dtype` says otherwise."""
        if not {"torch_dtype", "dtype"} & kwargs.keys():
            kwargs["dtype"] = torch.float32
        return super().from_pretrained(pretrained_model_name_or_path or BUNDLED, **kwargs)

    @classmethod
    def _dict_from_json_file(cls, json_file: str | Path) -> dict[str, Any]:
        # A saved folder names modules of its own, pipeline.py and the components', for plain diffusers. This class is
        # that class and knows those components: it needs no code from the folder, and so no `trust_remote_code`.
        config = super()._dict_from_json_file(json_file)
        if isinstance(config.get("_class_name"), list):
            config["_class_name"] = config["_class_name"][1]
        for name, value in config.items():
            if isinstance(value, list) and value[0] == name and value[1] in OURS:
                config[name] = [OURS[value[1]], value[1]]
        return config

    def save_config(self, save_directory: str | Path, **kwargs) -> None:
        """Also writes the modules with which plain diffusers finds this class and those of the components."""
        super().save_config(save_directory, **kwargs)
        folder = Path(save_directory)
        index = json.loads((folder / self.config_name).read_text())
        index["_class_name"] = ["pipeline", type(self).__name__]
        (folder / "pipeline.py").write_text(MODULE.format(name=type(self).__name__))
        for name, value in index.items():
            if isinstance(value, list) and value[1] in OURS and value[0] == OURS[value[1]]:
                index[name] = [name, value[1]]
                (folder / name).mkdir(exist_ok=True)
                (folder / name / f"{name}.py").write_text(MODULE.format(name=value[1]))
        (folder / self.config_name).write_text(json.dumps(index, indent=2) + "\n")

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
            max_face_size: likewise one with a larger side; 1.25 × the enhancer's `sample_size` by default, as larger
                faces have more detail than the enhancer gives; no limit for aligned crops, whose caller chose.
                `float("inf")` enhances all.
            max_faces: enhance only so many, the largest, of each picture.
            only_faces: for every picture the faces to enhance, by their places in the output's `faces` (from 0); all
                by default.
            detection_threshold: least score of a face, in [0, 1].
            face_batch_size: faces that go through enhancer and parser at once.
            tile_size: side in px of the tiles that go through the super-resolver one by one.
            output_type: "pil", "np" or "pt".
            return_dict: return a `FaceEnhanceOutput`; else a tuple of its two entries.
            callback: called as `callback(stage, done, total)` when a stage begins and after each of its steps:
                "detecting" counts pictures; "super-resolving", for each picture anew, its tiles; "enhancing" the faces
                of all pictures; "fusing", for each picture anew, its faces. To cancel the call, let it raise.

        Raises:
            ValueError, TypeError, OSError: with one line that says what is wrong, expected and to do.
        """
        # 0. Check inputs
        self._check_inputs(upscale, strength, aligned, min_face_size, max_faces, detection_threshold, face_batch_size)
        self._check_output(tile_size, output_type)
        self._prepare_models()
        device, size = self._execution_device, self.enhancer.config.sample_size
        if max_face_size is None:
            max_face_size = float("inf") if aligned else LARGEST_FACE * size
        limits = (min_face_size, max_face_size)
        report = callback or (lambda stage, done, total: None)

        # 1. Read the pictures
        pictures = self.image_processor.load_all(image)
        pictures = [replace(picture, pixels=picture.pixels.to(device)) for picture in pictures]  # [3, H, W] each
        if only_faces is not None and len(only_faces) != len(pictures):
            raise ValueError(f"only_faces must hold one list per picture, {len(pictures)}; got {len(only_faces)}.")

        # 2. Find and align the faces
        find = self._whole_picture if aligned else self._find_faces
        counted = _counted(pictures, partial(report, "detecting"))
        found = [find(picture.pixels, detection_threshold) for picture in counted]  # transforms [N, 2, 3] each
        faces = [self._describe(detections, transforms) for detections, transforms in found]
        wanted = only_faces or [None] * len(pictures)
        faces = [_leave_alone(of_one, only, *limits, max_faces) for of_one, only in zip(faces, wanted, strict=True)]

        chosen = [torch.tensor([face.left_alone is None for face in of_one], dtype=torch.bool) for of_one in faces]
        counts = [int(keep.sum()) for keep in chosen]
        whole = [not (aligned and count) for count in counts]  # else the result is a face, and nothing around it
        tiles = [self._tile_count(picture, upscale, tile_size) for picture in itertools.compress(pictures, whole)]
        batches = -(-sum(counts) // face_batch_size)
        with self.progress_bar(total=sum(tiles) * restore_background + batches) as bar:

            def on_step(stage: str, done: int, total: int) -> None:
                bar.update(1 if done else 0)
                report(stage, done, total)

            # 3. Super-resolve the pictures
            on_tile, on_batch = partial(on_step, "super-resolving"), partial(on_step, "enhancing")
            enlarged = [  # [3, uH, uW] each
                self._enlarge(picture.pixels, upscale, restore_background, tile_size, on_tile) if is_whole else None
                for picture, is_whole in zip(pictures, whole, strict=True)
            ]

            # 4. Crop, enhance and parse the faces of all pictures, in batches
            crops = [  # [N, 3, S, S] each
                _crop_both(picture.pixels, large, transforms, size)
                for picture, large, (_, transforms) in zip(pictures, enlarged, found, strict=True)
            ]
            poor = torch.cat([of_one[keep.to(device)] for of_one, keep in zip(crops, chosen, strict=True)])
            enhanced, parsed = self._enhance(poor, face_batch_size, on_batch)  # [M, 3, S, S], [M, L, S, S]
            masks = strength * face_mask(parsed, face_labels(self.parser.config.id2label))  # [M, 1, S, S]

        # 5. Fuse, 6. give back, picture by picture
        images, first = [], 0
        for index, picture in enumerate(pictures):
            own = slice(first, first := first + counts[index])
            if whole[index]:
                transforms = found[index][1][chosen[index].to(device)]  # [n, 2, 3]
                on_face = partial(report, "fusing")
                to_unit = for_upscaled(transforms, upscale) / size  # px of the result → crop of side 1
                large = self._match_resolution(enhanced[own], transforms, upscale, tile_size, on_face)
                result = fuse(enlarged[index], large, list(masks[own]), list(to_unit))
                enlarged[index] = None  # as large as a result: none is kept longer than needed
            else:
                blend = poor[own][0] + strength * (enhanced[own][0] - poor[own][0])  # [3, S, S]
                result = self._enlarge_face(blend, upscale, tile_size, partial(report, "super-resolving"))
            images.append(self.image_processor.to_output(result, picture, output_type))  # result [3, uH, uW]
            faces[index] = self._fill_in(
                faces[index], crops[index], enhanced[own], parsed[own], masks[own], output_type
            )

        self.maybe_free_model_hooks()
        if not return_dict:
            return images, faces
        return FaceEnhanceOutput(images=images, faces=faces)

    def _check_inputs(
        self,
        upscale: int,
        strength: float,
        aligned: bool,
        min_face_size: float,
        max_faces: int | None,
        detection_threshold: float,
        face_batch_size: int,
    ) -> None:
        if upscale not in UPSCALES:
            raise ValueError(f"upscale must be 1, 2 or 4; got {upscale!r}.")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must lie in [0, 1]; got {strength!r}.")
        if not 0 <= detection_threshold <= 1:
            raise ValueError(f"detection_threshold must lie in [0, 1]; got {detection_threshold!r}.")
        if min_face_size < 0:
            raise ValueError(f"min_face_size must be 0 or more px; got {min_face_size!r}.")
        if max_faces is not None and max_faces < 0:
            raise ValueError(f"max_faces must be 0 or more, or None for all; got {max_faces!r}.")
        if face_batch_size < 1:
            raise ValueError(f"face_batch_size must be at least 1; got {face_batch_size!r}.")
        if self.detector is None and not aligned:
            raise ValueError(
                "The pipeline has no detector, so it cannot find faces. Pass aligned=True for aligned crops, or load "
                "the pipeline with a detector."
            )

    def _check_output(self, tile_size: int, output_type: str) -> None:
        if tile_size < 64:
            raise ValueError(f"tile_size must be at least 64 px; got {tile_size!r}.")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}; got {output_type!r}.")

    def _prepare_models(self) -> None:
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

    def _find_faces(self, pixels: torch.Tensor, threshold: float) -> tuple[FaceDetections, torch.Tensor]:
        """The faces of `[3, H, W]`, and the transforms `[N, 2, 3]` from its px to the crops' px."""
        detections = self.detector.detect(pixels, threshold)
        if not len(detections):
            logger.warning("No face found; the picture is super-resolved only.")
            return detections, pixels.new_zeros(0, 2, 3)
        template = torch.tensor(self.detector.config.template) * self.enhancer.config.sample_size
        return detections, similarity_transform(detections.landmarks, template)

    def _whole_picture(self, pixels: torch.Tensor, _threshold: float) -> tuple[FaceDetections, torch.Tensor]:
        """The same for a picture that is one aligned crop."""
        height, width = pixels.shape[1:]
        if height != width:
            raise ValueError(
                f"An aligned crop is square; got {width}×{height} px. Align the face first, or pass aligned=False."
            )
        box = pixels.new_tensor([[0, 0, width, height]])
        scale = self.enhancer.config.sample_size / width
        transform = pixels.new_tensor([[[scale, 0, 0], [0, scale, 0]]])
        return FaceDetections(box, box.new_full((1, 5, 2), torch.nan), box.new_ones(1)), transform

    def _describe(self, detections: FaceDetections, transforms: torch.Tensor) -> list[EnhancedFace]:
        sides = self.enhancer.config.sample_size / scale_of(transforms)
        landmarks = [None if p.isnan().any() else p.cpu().numpy() for p in detections.landmarks]
        rows = zip(detections.boxes.tolist(), landmarks, detections.scores.tolist(), transforms, sides, strict=True)
        return [
            EnhancedFace(tuple(box), points, score, transform.cpu().numpy(), float(side))
            for box, points, score, transform, side in rows
        ]

    def _enhance(
        self, crops: torch.Tensor, batch_size: int, on_batch: Callable[[int, int], None]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops `[M, 3, S, S]` in [0, 1] → enhanced, likewise, and their labels' probabilities `[M, L, S, S]`."""
        size, labels = crops.shape[-1], len(self.parser.config.id2label)
        enhanced, parsed = [crops.new_zeros(0, 3, size, size)], [crops.new_zeros(0, labels, size, size)]
        on_batch(0, len(crops))
        for first in range(0, len(crops), batch_size):
            batch = crops[first : first + batch_size]
            output = self.enhancer((batch * 2 - 1).to(self.enhancer.dtype)).sample.float()
            enhanced.append(((output + 1) / 2).clamp(0, 1))
            parsed.append(self._parse(enhanced[-1]))
            on_batch(first + len(batch), len(crops))
        return torch.cat(enhanced), torch.cat(parsed)

    def _parse(self, faces: torch.Tensor) -> torch.Tensor:
        """Faces `[B, 3, S, S]` in [0, 1] → each label's probability `[B, L, S, S]`."""
        side = getattr(self.parser.config, "sample_size", 512)
        mean = faces.new_tensor(IMAGENET_MEAN)[:, None, None]
        std = faces.new_tensor(IMAGENET_STD)[:, None, None]
        pixel_values = F.interpolate((faces - mean) / std, size=(side, side), mode="bilinear", antialias=True)
        logits = self.parser(pixel_values=pixel_values.to(self.parser.dtype)).logits.float()
        return F.interpolate(logits, size=faces.shape[-2:], mode="bilinear").softmax(dim=1)

    def _enlarge(
        self,
        pixels: torch.Tensor,
        upscale: int,
        restore_background: bool,
        tile_size: int,
        on_tile: Callable[[int, int], None],
    ) -> torch.Tensor:
        if restore_background:
            return self._super_resolve(pixels, upscale, tile_size, on_tile)
        return _bicubic(pixels[None], upscale)[0].clamp_(0, 1)

    def _tile_count(self, picture: LoadedImage, upscale: int, tile_size: int) -> int:
        if self.super_resolver is None:
            return 0
        return tile_count(*picture.pixels.shape[1:], tile_size, self._overlap(upscale, tile_size))

    def _passes(self, upscale: int) -> int:
        """How often the super-resolver runs to reach `upscale`; once at least, for it also cleans."""
        scale = self.super_resolver.config.scale
        return 1 if scale == 1 else max(1, math.ceil(math.log(upscale, scale)))

    def _overlap(self, upscale: int, tile_size: int) -> int:
        """Context px of a tile: all that the super-resolver sees; an eighth of the tile where that is too much, as for
        RRDB, which sees hundreds of px but hardly uses those far away."""
        radius, scale = self.super_resolver.receptive_radius, self.super_resolver.config.scale
        seen = sum(math.ceil(radius / scale**done) for done in range(self._passes(upscale)))
        seen += 2  # what resampling to the wanted size sees
        largest = (tile_size - 4) // 4  # that `tiled` takes
        return seen if seen <= largest else tile_size // 8

    def _super_resolve(
        self,
        pixels: torch.Tensor,
        upscale: int,
        tile_size: int,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> torch.Tensor:
        """`[3, H, W]` → `[3, uH, uW]`, in tiles: the super-resolver as often as it takes, then to the wanted size."""
        if self.super_resolver is None:
            return _bicubic(pixels[None], upscale)[0].clamp_(0, 1)
        passes = self._passes(upscale)
        factor = self.super_resolver.config.scale**passes

        def network(tile: torch.Tensor) -> torch.Tensor:
            tile = tile.to(self.super_resolver.dtype)
            for _ in range(passes):
                tile = self.super_resolver(tile).sample.clamp(0, 1)
            tile = tile.float()
            return F.avg_pool2d(tile, factor // upscale) if factor > upscale else _bicubic(tile, upscale // factor)

        overlap = self._overlap(upscale, tile_size)
        if on_tile is not None:
            on_tile(0, tile_count(*pixels.shape[1:], tile_size, overlap))
        result = tiled(network, pixels, upscale, tile_size, overlap, on_tile)
        return result.clamp_(0, 1)

    def _enlarge_face(
        self, face: torch.Tensor, factor: int, tile_size: int, on_tile: Callable[[int, int], None] | None = None
    ) -> torch.Tensor:
        """An enhanced face is clean: at factor 1 there is nothing left to do."""
        return face if factor == 1 else self._super_resolve(face, factor, tile_size, on_tile)

    def _match_resolution(
        self,
        enhanced: torch.Tensor,
        transforms: torch.Tensor,
        upscale: int,
        tile_size: int,
        on_face: Callable[[int, int], None],
    ) -> list[torch.Tensor]:
        """Enlarges the faces that the result shows larger than they are, so that they stay as sharp as the rest."""
        wanted = upscale / scale_of(transforms)  # px of the result per px of the crop
        factors = [next((factor for factor in UPSCALES if factor >= ratio / 1.1), 4) for ratio in wanted.tolist()]
        pairs = _counted(list(zip(enhanced, factors, strict=True)), on_face)
        return [self._enlarge_face(face, factor, tile_size) for face, factor in pairs]

    def _fill_in(
        self,
        faces: list[EnhancedFace],
        crops: torch.Tensor,
        enhanced: torch.Tensor,
        parsed: torch.Tensor,
        masks: torch.Tensor,
        output_type: str,
    ) -> list[EnhancedFace]:
        """The records with their pictures; `enhanced`, `parsed` and `masks` hold those that were not left alone."""
        records, following = [], iter(zip(enhanced, parsed, masks, strict=True))
        for face, crop in zip(faces, crops, strict=True):
            pictures = {"crop": self._to_output(crop, output_type)}
            if face.left_alone is None:
                image, probabilities, mask = next(following)
                pictures["enhanced"] = self._to_output(image, output_type)
                pictures["parsing"] = probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()
                pictures["mask"] = mask[0].cpu().numpy()
            records.append(replace(face, **pictures))
        return records

    def _to_output(self, pixels: torch.Tensor, output_type: str) -> Image.Image | np.ndarray | torch.Tensor:
        return self.image_processor.to_output(pixels, LoadedImage(pixels, None, ImageInfo()), output_type)


def _counted(items: Sequence[T], report: Callable[[int, int], None]) -> Iterator[T]:
    """The items; reports how many of them are done before the first and after each."""
    report(0, len(items))
    for done, item in enumerate(items, 1):
        yield item
        report(done, len(items))


def _leave_alone(
    faces: list[EnhancedFace],
    only: Sequence[int] | None,
    min_size: float,
    max_size: float,
    max_faces: int | None,
) -> list[EnhancedFace]:
    """Notes for every face why it is left alone, if it is."""
    if unknown := set(only or ()) - set(range(len(faces))):
        raise ValueError(
            f"only_faces asks for face {min(unknown)} of a picture with {len(faces)}; they are counted from 0."
        )

    def reason(index: int, face: EnhancedFace) -> str | None:
        if only is not None and index not in only:
            return "not chosen (only_faces)"
        if face.size < min_size:
            return f"too small: its crop is {face.size:.0f} px wide, less than min_face_size {min_size:g}"
        if face.size > max_size:
            return f"sharp enough: its crop is {face.size:.0f} px wide, more than max_face_size {max_size:g}"
        return None

    faces = [replace(face, left_alone=reason(index, face)) for index, face in enumerate(faces)]
    by_size = sorted((face for face in faces if face.left_alone is None), key=lambda face: face.size, reverse=True)
    surplus = [] if max_faces is None else by_size[max_faces:]
    note = f"not among the {max_faces} largest (max_faces)"
    return [replace(face, left_alone=note) if any(face is one for one in surplus) else face for face in faces]


def _crop_both(
    pixels: torch.Tensor, enlarged: torch.Tensor | None, transforms: torch.Tensor, size: int
) -> torch.Tensor:
    """The aligned faces `[N, 3, S, S]`: the mean of the photograph's and the super-resolved photograph's.

    The one has all that is left of the face, the other less noise: what the enhancer makes of both is nearer to the
    sharp face at light and medium damage, and as near at heavy damage. From the latter alone it would lose there.
    """
    crops = crop_faces(pixels, transforms, size)
    if enlarged is None:
        return crops
    upscale = enlarged.shape[-1] / pixels.shape[-1]
    return (crops + crop_faces(enlarged, for_upscaled(transforms, upscale), size)) / 2


def _bicubic(pictures: torch.Tensor, factor: int) -> torch.Tensor:
    return pictures.clone() if factor == 1 else F.interpolate(pictures, scale_factor=factor, mode="bicubic")
