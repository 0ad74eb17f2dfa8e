"""What is wrong with a model that a command line names is said in one line."""

import json

import pytest
from tiny import tiny_enhancer

from hf_faceenh.loading import load_single


def test_weights_that_do_not_fit_are_one_line(tmp_path):
    tiny_enhancer(16).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"constant_channels": config["constant_channels"] + 1}))
    with pytest.raises(OSError, match="^Could not load ") as raised:
        load_single(str(tmp_path))
    assert "\n" not in str(raised.value)
