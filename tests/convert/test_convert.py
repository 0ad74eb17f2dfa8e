"""Published checkpoints become folders, against the published networks' own results."""

import inspect
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import DATA, golden, saved, state_dict_of
from safetensors.torch import load_file

from hf_faceenh.convert import ConversionError, convert, load_published
from hf_faceenh.models.codeformer import CodeFormerFaceEnhancer
from hf_faceenh.models.discriminator import FaceDiscriminator, discriminator_config
from hf_faceenh.models.gfpgan import GFPGANFaceEnhancer, gfpgan_config
from hf_faceenh.models.gpen import GPENFaceEnhancer, gpen_config
from hf_faceenh.models.restoreformer import RestoreFormerFaceEnhancer
from hf_faceenh.models.super_resolver import SuperResolver

GPEN_256 = {"channel_multiplier": 1, "narrow": 0.5}
OFFICIAL = {
    "GPEN-BFR-256": (GPENFaceEnhancer, gpen_config(256, **GPEN_256)),
    "GPEN-BFR-512": (GPENFaceEnhancer, gpen_config(512)),
    "GPEN-BFR-1024": (GPENFaceEnhancer, gpen_config(1024)),
    "GPEN-BFR-256-D": (FaceDiscriminator, discriminator_config(256, **GPEN_256)),
    "GPEN-BFR-512-D": (FaceDiscriminator, discriminator_config(512)),
    "GFPGANv1.4": (GFPGANFaceEnhancer, gfpgan_config()),
    "codeformer-v0.1.0": (CodeFormerFaceEnhancer, {}),
    "RestoreFormer": (RestoreFormerFaceEnhancer, {"heads": 8, "attended_resolutions": 1}),
    "RestoreFormer++": (RestoreFormerFaceEnhancer, {"heads": 4, "attended_resolutions": 2}),
    "RealESRGAN_x4plus": (
        SuperResolver, {"architecture": "rrdb", "scale": 4, "num_feat": 64, "num_block": 23, "num_grow_ch": 32},
    ),
    "RealESRGAN_x2plus": (
        SuperResolver, {"architecture": "rrdb", "scale": 2, "num_feat": 64, "num_block": 23, "num_grow_ch": 32},
    ),
    "realesr-general-x4v3": (
        SuperResolver, {"architecture": "compact", "scale": 4, "num_feat": 64, "num_conv": 32},
    ),
}  # fmt: skip
LICENSES = {
    GPENFaceEnhancer: "Non-commercial",
    FaceDiscriminator: "Non-commercial",
    GFPGANFaceEnhancer: "Apache-2.0",
    CodeFormerFaceEnhancer: "Non-commercial",
    RestoreFormerFaceEnhancer: "Apache-2.0",
    SuperResolver: "BSD-3-Clause",
}
UNNEEDED = r"\.kernel$|^toRGB\.|\.style_mlp\.|^encoder\..*attn.*\.norm2\."  # constants, and what nothing reads


def as_lists(value):
    return [as_lists(entry) for entry in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("manifest", OFFICIAL)
def test_official_file(manifest, tmp_path):
    state = state_dict_of(manifest)
    model = load_published(saved(state, tmp_path / "official.pth"))
    expected_class, expected_config = OFFICIAL[manifest]
    assert type(model) is expected_class
    defaults = inspect.signature(expected_class.__init__).parameters
    for name, value in model.config.items():
        if name != "license" and name in defaults:
            assert as_lists(value) == as_lists(expected_config.get(name, defaults[name].default)), name
    assert sum(stored.numel() for stored in model.state_dict().values()) == sum(
        tensor.numel() for key, tensor in state.items() if not re.search(UNNEEDED, key)
    )
    assert not any(p.is_meta for p in model.parameters()) and not any(b.is_meta for b in model.buffers())
    assert LICENSES[expected_class] in model.config.license


def test_official_file_becomes_a_folder(tmp_path):
    folder = convert(saved(state_dict_of("GPEN-BFR-512"), tmp_path / "GPEN-BFR-512.pth"), tmp_path / "new/gpen-512")
    try:
        config = json.loads((folder / "config.json").read_text())
        assert config["_class_name"] == "GPENFaceEnhancer" and config["sample_size"] == 512
        assert "Non-commercial" in config["license"]
        weights = folder / "diffusion_pytorch_model.safetensors"
        assert weights.stat().st_size == pytest.approx(4 * 71_005_223, rel=0.001)
        assert [entry.name for entry in folder.parent.iterdir()] == ["gpen-512"]
    finally:
        shutil.rmtree(folder)  # 284 MB


@pytest.mark.parametrize("name", ["gpen_generator", "gpen_discriminator", "rrdb_x2", "rrdb_x4", "srvgg_x4"])
@pytest.mark.parametrize("wrapper", [None, "g_ema", "params", "params_ema", "safetensors"])
@torch.no_grad()
def test_converted_folder_equals_the_published_code(name, wrapper, tmp_path):
    state, source = golden(name), tmp_path / "published.pth"
    if wrapper == "safetensors":
        source = DATA / "golden" / name / "weights.safetensors"
    else:
        saved({wrapper: state, "other": {}} if wrapper else state, source)
    folder = convert(source, tmp_path / "converted")
    model = type(load_published(source)).from_pretrained(folder)
    values = load_file(DATA / "golden" / name / "io.safetensors")
    torch.testing.assert_close(model(values["input"], return_dict=False)[0], values["output"], atol=1e-4, rtol=0)


def test_existing_target_is_kept(tmp_path):
    target = tmp_path / "mine"
    target.mkdir()
    (target / "config.json").write_text("precious")
    with pytest.raises(ConversionError, match="mine exists already"):
        convert(DATA / "golden/srvgg_x4/weights.safetensors", target)
    assert (target / "config.json").read_text() == "precious"


def test_failed_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(self, folder):
        Path(folder).mkdir()
        raise OSError("No space left on device")

    monkeypatch.setattr(SuperResolver, "save_pretrained", full_disk)
    with pytest.raises(OSError, match="No space left"):
        convert(DATA / "golden/srvgg_x4/weights.safetensors", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_esrgan_under_its_older_names(tmp_path):
    state = golden("rrdb_x4")
    blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("body."))
    whole = {"conv_first": "0", "conv_body": f"1.sub.{blocks}", "conv_up1": "3", "conv_up2": "6", "conv_hr": "8"}
    whole["conv_last"] = "10"

    def older(key):
        name, kind = key.rsplit(".", 1)
        if name in whole:
            return f"model.{whole[name]}.{kind}"
        _, block, dense, conv = name.split(".")
        return f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"

    model = load_published(saved({older(key): value for key, value in state.items()}, tmp_path / "4x_any.pth"))
    values = load_file(DATA / "golden/rrdb_x4/io.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(model(values["input"]).sample, values["output"], atol=1e-4, rtol=0)
    assert "ESRGAN" in model.config.license


def test_two_compact_networks_become_one_that_takes_a_wanted_amount_of_denoising(tmp_path):
    strong, values = golden("srvgg_x4"), load_file(DATA / "golden/srvgg_x4/io.safetensors")
    weak = {key: value * 0.9 for key, value in strong.items()}
    files = [saved({"params": state}, tmp_path / f"{index}.pth") for index, state in enumerate((strong, weak))]
    model = SuperResolver.from_pretrained(convert(files[0], tmp_path / "both", weak=files[1]))
    half = load_published(saved({key: value * 0.95 for key, value in strong.items()}, tmp_path / "half.pth"))

    with torch.no_grad():
        torch.testing.assert_close(model(values["input"]).sample, values["output"], atol=1e-4, rtol=0)
        for amount, alone in ((1, load_published(files[0])), (0, load_published(files[1])), (0.5, half)):
            sample = model(values["input"], denoise=amount).sample
            torch.testing.assert_close(sample, alone(values["input"]).sample, atol=1e-5, rtol=0)


def test_two_networks_that_do_not_go_together(tmp_path):
    files = [DATA / f"golden/{name}/weights.safetensors" for name in ("srvgg_x4", "rrdb_x4")]
    with pytest.raises(ConversionError, match="do not hold compact networks of one size"):
        convert(files[0], tmp_path / "out", weak=files[1])
    assert not (tmp_path / "out").exists()
