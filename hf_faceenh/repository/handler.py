"""Serves this model on Hugging Face Inference Endpoints.

    {"inputs": "<the picture's file, base64>", "parameters": {"upscale": 2, "strength": 0.8}}

or the bytes of the picture's file with its content type, and parameters in the URL's query. The answer is the enhanced
picture. Whatever an `EndpointHandler` raises, the service answers with status 400 and {"error": the message}.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from hf_faceenh import FaceEnhancePipeline
from hf_faceenh.allocator import keep_freed_memory

# What a caller may set of `FaceEnhancePipeline.__call__`; a query in a URL gives fractions as text.
PARAMETERS = {
    "upscale": int,
    "strength": float,
    "aligned": bool,
    "restore_background": bool,
    "min_face_size": float,
    "max_face_size": float,
    "max_faces": int,
    "detection_threshold": float,
    "identity_limit": float,
    "fidelity": float,
}
LARGEST_RESULT = 100_000_000  # pixels; more would need more memory than an endpoint has


class EndpointHandler:
    """
    Args:
        path: the repository's folder; by default the one that this file is in.
    """

    def __init__(self, path: str = ""):
        keep_freed_memory()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipe = FaceEnhancePipeline.from_pretrained(path or Path(__file__).parent).to(device)
        self.pipe.set_progress_bar_config(disable=True)

    def __call__(self, data: dict[str, Any]) -> Image.Image:
        """
        Args:
            data: "inputs": the picture, as base64 text, bytes of a file, or decoded by the service; "parameters": some
                of `PARAMETERS`, if any.

        Raises:
            ValueError, TypeError, OSError: with one line that says what is wrong with the request.
        """
        parameters = check_parameters(data.get("parameters"))
        picture = self.pipe.image_processor.load(read_inputs(data.get("inputs")))
        upscale = parameters.get("upscale", 2)
        height, width = picture.pixels.shape[1:]
        if height * width * upscale**2 > LARGEST_RESULT:
            raise ValueError(
                f"The result would have {height * width * upscale**2 / 1e6:.0f} megapixels; at most "
                f"{LARGEST_RESULT / 1e6:.0f} are served. Send a smaller picture, or a smaller upscale."
            )
        return self.pipe(picture, face_pictures=False, **parameters).images[0]


def read_inputs(inputs: Any) -> bytes | Image.Image:
    """The picture of a request. Text is never taken for a path or URL: a caller must not read the server's files."""
    if isinstance(inputs, (bytes, Image.Image)):
        return inputs
    if not isinstance(inputs, str):
        raise ValueError(f"inputs must be a picture, as base64 text or bytes of a file; got {type(inputs).__name__}.")
    text = inputs.partition(",")[2] if inputs.startswith("data:") else inputs
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"inputs is not base64: {error}. Send the bytes of the picture's file as base64.") from error


def check_parameters(parameters: Any) -> dict[str, Any]:
    """Those that were given, each of its type; their ranges are the pipeline's to check."""
    if not isinstance(parameters or {}, dict):
        raise ValueError(f"parameters must be a JSON object; got {type(parameters).__name__}.")
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    if unknown := given.keys() - PARAMETERS.keys():
        raise ValueError(f"There is no parameter {min(unknown)}; expected some of {', '.join(PARAMETERS)}.")
    return {name: _as(PARAMETERS[name], name, value) for name, value in given.items()}


def _as(kind: type, name: str, value: Any) -> Any:
    try:
        if isinstance(value, bool) is (kind is bool) and (kind(value) == value or isinstance(value, str)):
            return kind(value)
    except (ValueError, TypeError, OverflowError):
        pass
    expected = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
    raise ValueError(f"{name} must be {expected}; got {value!r}.")
