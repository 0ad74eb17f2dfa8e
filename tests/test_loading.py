"""What is wrong with a model that a command line names is said in one line."""

import pytest
from tiny import tiny_enhancer

from hf_faceenh import FaceEnhancer
from hf_faceenh.loading import load_single


def test_a_library_error_of_many_lines_becomes_one(tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("size mismatch:\n\tstem.weight\n\tstem.bias")

    tiny_enhancer(16).save_pretrained(tmp_path)
    monkeypatch.setattr(FaceEnhancer, "from_pretrained", fails)
    with pytest.raises(OSError) as raised:
        load_single(str(tmp_path))
    assert str(raised.value) == f"Could not load {tmp_path}: size mismatch: stem.weight stem.bias"
