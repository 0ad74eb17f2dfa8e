"""Checkpoint files → state dicts: PyTorch's pickles, safetensors, ONNX and dlib's own files."""

import pickle
import warnings
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from hf_faceenh.convert.architecture import ConversionError, StateDict
from hf_faceenh.convert.dlib_file import read_dlib
from hf_faceenh.files import why_unreadable

MOST_VALUES = 2**29  # that a file may declare; the largest network that is known has a sixth of that
# The entries in which published files keep the state dict, best first.
WRAPPERS = ("g_ema", "params_ema", "params", "state_dict", "model")


def read_state_dict(source: Path) -> StateDict:
    """The state dict of a `.safetensors`, `.onnx`, `.dat` (dlib) or PyTorch file, unwrapped.

    Code in a pickle is never run, and no file but `source` is read.

    Raises:
        ConversionError: for a file that cannot be read, or holds anything else.
    """
    if reason := why_unreadable(source):
        raise ConversionError(reason)
    if source.stat().st_size == 0:
        raise ConversionError("the file is empty; download it again")
    try:
        state = READERS.get(source.suffix, _read_pytorch)(source)
    except (ConversionError, MemoryError):
        raise
    except Exception as error:  # the libraries' readers raise anything on a damaged file
        raise ConversionError("the file is damaged; download it again") from error
    _check(state)
    return state


def _check(state: StateDict) -> None:
    """Whether these are names and plain tensors, before anything is computed with them."""
    if not all(isinstance(key, str) for key in state):
        raise ConversionError("the names of its weights are not text; download it again")
    for key, tensor in state.items():
        if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
            raise ConversionError(f"{key} is no plain tensor (sparse, quantised or without values)")
    if (values := sum(tensor.numel() for tensor in state.values())) > MOST_VALUES:  # a few bytes can declare many
        raise ConversionError(f"it declares {values:.1e} values, more than any network that is known here has")


def _read_pytorch(source: Path) -> StateDict:
    _check_archive(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that PyTorch did not write: they are refused below
            content = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise ConversionError("the file holds pickled code, not only tensors; it was not run") from error
        raise ConversionError("this is not a PyTorch checkpoint") from error
    except Exception as error:  # torch.load documents none: RuntimeError, EOFError, KeyError, … by the damage
        raise ConversionError("the file is truncated or not a PyTorch checkpoint; download it again") from error
    return _unwrapped(content)


def _check_archive(source: Path) -> None:
    """PyTorch stores tensors as they are; a file that unpacks to more than it has was not written by it."""
    if not zipfile.is_zipfile(source):
        return
    try:
        with zipfile.ZipFile(source) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ConversionError("the file is truncated or not a PyTorch checkpoint; download it again") from error
    if unpacked > 2 * source.stat().st_size:
        raise ConversionError(f"the file unpacks to {unpacked / 1e6:.0f} MB; PyTorch packs nothing")


def _unwrapped(content: object) -> StateDict:
    """The state dict that a pickle holds, by itself or in an entry of its own, beside what training needed."""
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise ConversionError(f"the file holds no state dict, neither by itself nor under {', '.join(WRAPPERS)}")
    return content


def _read_safetensors(source: Path) -> StateDict:
    try:
        return safetensors.torch.load_file(source)
    except SafetensorError as error:
        raise ConversionError("the file is truncated or not a safetensors file; download it again") from error


def _read_onnx(source: Path) -> StateDict:
    """The weights of an ONNX file, under the names that it gives them."""
    try:
        import onnx
        from onnx.external_data_helper import uses_external_data
    except ImportError as error:
        raise ConversionError('an ONNX file needs the onnx package: pip install "hf-faceenh[convert]"') from error
    try:
        tensors = onnx.load(source, load_external_data=False).graph.initializer
        # A tensor may name another file that holds its values; `to_array` would read it, wherever it is.
        external = [tensor.name for tensor in tensors if uses_external_data(tensor)]
        own = [tensor for tensor in tensors if tensor.name not in external]
        state = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in own}
    except Exception as error:  # protobuf's own class, or ValueError, TypeError, … by the damage
        raise ConversionError("the file is truncated or not an ONNX file; download it again") from error
    if external:
        raise ConversionError(
            f"the values of {external[0]} are in another file, which was not read; use a file that holds them all"
        )
    return state


READERS = {".safetensors": _read_safetensors, ".onnx": _read_onnx, ".dat": read_dlib}  # any other suffix: PyTorch
