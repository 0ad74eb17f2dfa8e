"""What is wrong with a model that a command line names is said in one line."""

import pytest
from safetensors.torch import load_file, save_file
from tiny import tiny_enhancer, tiny_parser

from hf_faceenh import FaceEnhancer
from hf_faceenh.loading import load_single, single_class


def test_a_library_error_of_many_lines_becomes_one(tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("size mismatch:\n\tstem.weight\n\tstem.bias")

    tiny_enhancer(16).save_pretrained(tmp_path)
    monkeypatch.setattr(FaceEnhancer, "from_pretrained", fails)
    with pytest.raises(OSError) as raised:
        load_single(str(tmp_path))
    assert str(raised.value) == f"Could not load {tmp_path}: size mismatch: stem.weight stem.bias"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[1, 2]", "is no JSON object, but a list"),
        ("[" * 100_000, "is not JSON"),
        ("{", "is not JSON"),
        ("{}", "names no class"),
        ('{"_class_name": {"a": 1}}', "names no class"),
        ('{"architectures": [3]}', "names no class"),
    ],
    ids=range(6),
)
def test_a_config_that_names_no_class_is_one_line(tmp_path, config, said):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(OSError, match=said) as raised:
        single_class(str(tmp_path))
    assert str(raised.value).startswith(f"Could not load {tmp_path}: ") and "\n" not in str(raised.value)


def test_a_parser_without_its_head_is_refused(tmp_path):
    tiny_parser().save_pretrained(tmp_path)
    assert load_single(str(tmp_path)).keys() == {"parser"}
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "classifier" not in name}, file, {"format": "pt"})
    with pytest.raises(OSError, match="lacks weights of its parser"):
        load_single(str(tmp_path))
    save_file(weights | {"decode_head.classifier.bias": weights["decode_head.classifier.bias"] * float("nan")}, file)
    with pytest.raises(OSError, match="decode_head.classifier.bias of the parser holds values that are not finite"):
        load_single(str(tmp_path))
