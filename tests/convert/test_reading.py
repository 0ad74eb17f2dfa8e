"""Files of every kind, and what is refused of them."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from checkpoints import golden, refused, saved

from hf_faceenh.convert import load_published


def test_averaged_weights_are_preferred(tmp_path):
    averaged = golden()
    plain = {key: value if key.endswith(".kernel") else value + 1 for key, value in averaged.items()}
    model = load_published(saved({"params": plain, "g_ema": averaged}, tmp_path / "training.pth"))
    assert torch.equal(model.generating_network.constant, averaged["generator.input.input"])


@pytest.mark.parametrize("name, prefix", [("rrdb_x4", "module."), ("srvgg_x4", "generator."), ("rrdb_x2", "vqvae.")])
def test_what_a_training_framework_saved(name, prefix, tmp_path):
    """The network under a prefix, beside others, in an entry of its own."""
    state = {f"{prefix}{key}": value for key, value in golden(name).items()} | {"loss.logvar": torch.zeros(1)}
    content = {"epoch": 3, "state_dict": state, "callbacks": {}}
    model = load_published(saved(content, tmp_path / "last.ckpt"))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in golden(name).items())


@pytest.mark.parametrize(
    "key, name",
    [
        ("layers.0.residual_group.blocks.0.attn.qkv.weight", "SwinIR, a super-resolver"),
        ("layers.0.residual_group.blocks.0.attn.logit_scale", "Swin2SR, a super-resolver"),
        ("middle_blks.0.beta", "NAFNet, a denoiser"),
        ("ClassHead.0.conv1x1.weight", "RetinaFace, a face detector"),
    ],
)
def test_a_network_without_a_class_of_ours_is_named(key, name, tmp_path):
    source = saved({"params": {key: torch.zeros(4), "other": torch.zeros(1)}}, tmp_path / "network.pth")
    refused(source, tmp_path / "out", f"this is {name}, which is not supported")


class Code:
    """Unpickling it makes the folder `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_file(legacy, tmp_path):
    buffer = io.BytesIO()
    torch.save(golden(), buffer, _use_new_zipfile_serialization=not legacy)
    whole = buffer.getvalue()
    assert (tmp_path / "whole.pth").write_bytes(whole) and load_published(tmp_path / "whole.pth")
    for part in (0.001, 0.01, 0.5, 0.999):
        source = tmp_path / "part.pth"
        source.write_bytes(whole[: int(len(whole) * part)])
        refused(source, tmp_path / "out", "truncated|not a PyTorch checkpoint")


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_code_in_a_pickle_is_not_run(form, tmp_path):
    proof, source = tmp_path / "it-ran", tmp_path / "code.pth"
    state = golden() | {"code": Code(proof)}
    if form == "plain pickle":
        source.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, source, _use_new_zipfile_serialization=form == "zip")
    refused(source, tmp_path / "out", "pickled code, not only tensors; it was not run|not a PyTorch checkpoint")
    assert not proof.exists()
    pickle.loads(source.read_bytes()) if form == "plain pickle" else torch.load(source, weights_only=False)
    assert proof.exists()  # the code is live


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("notes.pth", b"these are my notes\n", "not a PyTorch checkpoint"),
        ("page.pth", b"<!DOCTYPE html><html>404</html>", "not a PyTorch checkpoint"),
        ("empty.pth", b"", "empty"),
        ("notes.safetensors", b"these are my notes\n", "truncated or not a safetensors file"),
        ("archive.pth", b"PK\x05\x06" + bytes(18), "not a PyTorch checkpoint"),
    ],
)
def test_file_that_is_no_checkpoint(name, content, match, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, tmp_path / "out", match)


def test_source_that_is_no_file(tmp_path):
    refused(tmp_path / "absent.pth", tmp_path / "out", "no such file")
    refused(tmp_path, tmp_path / "out", "a folder, not a file")


@pytest.mark.parametrize("place", ["", "elsewhere/"])
def test_onnx_file_that_names_another_file(place, tmp_path, monkeypatch):
    """onnx would read it: beside the model with `load`, in the working folder with `to_array`."""
    onnx = pytest.importorskip("onnx")
    (tmp_path / "private").write_bytes(bytes(16))
    weight = onnx.TensorProto(name="neck.deconv_layers.0.conv.weight", data_type=onnx.TensorProto.FLOAT, dims=[4])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="private")
    graph = onnx.helper.make_graph([], "network", [], [], initializer=[weight])
    source = tmp_path / place / "network.onnx"
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    monkeypatch.chdir(tmp_path)
    refused(source, tmp_path / "out", "values of neck.deconv_layers.0.conv.weight are in another file, which was not")


def with_first(state, change):
    key = next(iter(state))
    return state | {key: change(state[key])}


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda weight: weight * float("nan"), "not finite numbers"),
        (lambda weight: weight.to(torch.complex64), "of the kind complex64, expected floats"),
        (lambda weight: weight.to(torch.int8), "of the kind int8, expected floats"),
        (lambda weight: weight.to_sparse(), "no plain tensor"),
        (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "no plain tensor"),
        (lambda weight: weight.to("meta"), "no plain tensor"),
        (lambda weight: weight[:0], "which holds nothing"),
        (lambda weight: torch.zeros(1).expand(60_000, 60_000), "declares 3.6e"),
    ],
)
def test_tensors_that_are_no_weights(change, match, tmp_path):
    source = saved(with_first(golden("srvgg_x4"), change), tmp_path / "network.pth")
    refused(source, tmp_path / "out", match)


def test_a_file_that_unpacks_to_much_more(tmp_path):
    """A zip that PyTorch would read, if there were the memory."""
    saved({"params": {"body.0.weight": torch.zeros(1_000_000)}}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain:
        with zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed:
            for entry in plain.infolist():
                packed.writestr(entry.filename, plain.read(entry))
    refused(tmp_path / "packed.pth", tmp_path / "out", "unpacks to 4 MB; PyTorch packs nothing")


def test_onnx_names_that_are_not_text(tmp_path):
    onnx = pytest.importorskip("onnx")
    weight = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "NAMES")
    graph = onnx.helper.make_graph([], "network", [], [], initializer=[weight])
    content = onnx.helper.make_model(graph).SerializeToString().replace(b"NAMES", b"\xff\xfe\xfd\xfc\xfb")
    (tmp_path / "network.onnx").write_bytes(content)
    refused(tmp_path / "network.onnx", tmp_path / "out", "names of its weights are not text|not an ONNX file")


def test_a_device_is_no_file(tmp_path):
    refused("/dev/zero", tmp_path / "out", "a device or a pipe, not a file")
