"""The networks of a pipeline as onnxruntime computes them: each has the contract of the torch network that it stands
for, so that the pipeline does not notice."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig
from transformers.modeling_outputs import SemanticSegmenterOutput

from hf_faceenh import models
from hf_faceenh.enhancing import dial
from hf_faceenh.errors import one_line
from hf_faceenh.models import (
    FaceDetector,
    FaceDetectorOutput,
    FaceEnhancerOutput,
    FaceRecognizerOutput,
    SuperResolver,
    SuperResolverOutput,
)
from hf_faceenh.models.detector import check_pictures
from hf_faceenh.models.face_network import check_faces, check_fidelity
from hf_faceenh.models.soundness import check_model_folder
from hf_faceenh.onnx.graphs import file_name, scaled

if TYPE_CHECKING:
    import onnxruntime


class OnnxNetwork(nn.Module):
    """A network of ONNX files, which onnxruntime computes on the CPU with as many threads as torch has.

    Tensors that go in and come out are float32, whatever the files compute in.

    Args:
        config: of the torch network that the files were exported from.
        files: the files.

    Raises:
        OSError: where onnxruntime cannot read a file.
    """

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, config: Any, files: Sequence[Path]):
        nn.Module.__init__(self)  # and not what a class after this one would: there are no layers
        self._config = config
        self.files = list(files)
        self._sessions = {file.name.partition(".")[0]: _session(file) for file in files}

    @property
    def config(self) -> Any:
        return self._config

    def compute(self, name: str, **inputs: torch.Tensor | float) -> list[torch.Tensor]:
        """The outputs of a graph of `graphs`, in their order; a number becomes a tensor of one entry."""
        feeds = {key: _array(value) for key, value in inputs.items()}
        return [torch.from_numpy(output) for output in self._sessions[name].run(None, feeds)]

    def to(self, *args, **kwargs) -> "OnnxNetwork":
        """Itself: it is on the CPU, in float32.

        Raises:
            ValueError: for another device or number type.
        """
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        if device is not None and device.type != "cpu" or dtype not in (None, torch.float32):
            raise ValueError(
                f"The {type(self).__name__} computes on the CPU and takes float32; got {device or dtype}. Leave "
                'backend="onnx" out for other devices and number types.'
            )
        return self

    def train(self, mode: bool = True) -> "OnnxNetwork":
        """
        Raises:
            ValueError: for training.
        """
        if mode:
            raise ValueError(f'The {type(self).__name__} cannot be trained. Leave backend="onnx" out.')
        return super().train(mode)

    def compile(self, *args, **kwargs) -> None:
        """
        Raises:
            ValueError: always.
        """
        raise ValueError(f'The {type(self).__name__} is compiled already. Leave compile out, or backend="onnx".')


def _session(file: Path) -> "onnxruntime.InferenceSession":
    import onnxruntime  # of an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what matters is raised
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen kinds, without a class in common
        raise OSError(f"onnxruntime cannot load {file}: {one_line(error)}") from error


def _array(value: torch.Tensor | float) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", torch.float32).contiguous().numpy()
    return np.array([value], np.float32)


class OnnxFaceEnhancer(OnnxNetwork):
    """Stands for an enhancer, of any family."""

    def forward(self, sample: torch.Tensor, fidelity: float | None = None) -> FaceEnhancerOutput:
        check_faces(self, sample)
        turned = {}
        if dial(self) is not None:
            turned["fidelity"] = dial(self) if fidelity is None else fidelity
            check_fidelity(turned["fidelity"])
        return FaceEnhancerOutput(sample=self.compute("model", sample=sample, **turned)[0])


class OnnxFaceParser(OnnxNetwork):
    """Stands for a semantic-segmentation model of `transformers`."""

    def forward(self, pixel_values: torch.Tensor) -> SemanticSegmenterOutput:
        return SemanticSegmenterOutput(logits=self.compute("model", pixel_values=pixel_values)[0])


class OnnxFaceDetector(OnnxNetwork, FaceDetector):
    """Stands for a `FaceDetector`, whose way of looking at a picture it shares."""

    def forward(self, sample: torch.Tensor) -> FaceDetectorOutput:
        check_pictures(sample)
        return FaceDetectorOutput(*self.compute("model", sample=sample))


class OnnxFaceRecognizer(OnnxNetwork):
    """Stands for a face recognizer."""

    def forward(self, pixel_values: torch.Tensor) -> FaceRecognizerOutput:
        return FaceRecognizerOutput(embeddings=self.compute("model", pixel_values=pixel_values)[0])


class OnnxSuperResolver(OnnxNetwork, SuperResolver):
    """Stands for a `SuperResolver`, and knows as it does which scales it reaches and how far it sees."""

    def forward(
        self, sample: torch.Tensor, scale: int | None = None, denoise: float | None = None
    ) -> SuperResolverOutput:
        scale = self.config.scale if scale is None else scale
        self.check_input(sample, scale, denoise)
        dial = {"denoise": 1.0 if denoise is None else denoise} if self.config.denoising else {}
        (upscaled,) = self.compute(scaled(scale), sample=sample, **dial)
        return SuperResolverOutput(sample=upscaled)


KINDS = {
    "enhancer": OnnxFaceEnhancer,
    "parser": OnnxFaceParser,
    "detector": OnnxFaceDetector,
    "recognizer": OnnxFaceRecognizer,
    "super_resolver": OnnxSuperResolver,
}


def refuse_onnx(components: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: for components that cannot be saved, because their weights are in ONNX files.
    """
    if names := [name for name, component in components.items() if isinstance(component, OnnxNetwork)]:
        raise ValueError(
            f"The pipeline's {names[0]} computes ONNX files and cannot be saved. Copy the folder that they are from, "
            'or load the pipeline without backend="onnx".'
        )


def load_network(folder: Path, role: str, variant: str | None = None) -> OnnxNetwork:
    """A component of a pipeline's folder.

    Args:
        folder: of the pipeline.
        role: of the component.
        variant: "fp16" for the files in half precision, of a network that has them.

    Raises:
        ValueError: for a config that no network here has.
        OSError: where files are missing or damaged.
    """
    check_model_folder(folder / role)
    config = config_of(folder / role)
    names = [scaled(scale) for scale in config.scales or [config.scale]] if role == "super_resolver" else ["model"]
    files = [folder / role / file_name(name, variant) for name in names]
    if not all(file.is_file() for file in files):
        files = [folder / role / file_name(name, None) for name in names]
    for file in files:
        if not file.is_file():
            raise OSError(
                f"{folder} holds no {role}/{file.name}. Make a folder that does: hf-faceenh export DIR --onnx"
            )
    return KINDS[role](config, files)


def config_of(folder: Path) -> Any:
    """A component's whole config, with the defaults that its file lacks, and without its weights."""
    values: Mapping[str, Any] = json.loads((folder / "config.json").read_text())
    kind = getattr(models, values.get("_class_name", ""), None)
    if kind is None:
        return AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        return kind.from_config(values).config
