"""Options of the command lines, in every spelling."""

import pytest

from hf_faceenh.batch.__main__ import _parser as batch_parser
from hf_faceenh.cli import _parser
from hf_faceenh.commands import pipeline_options


@pytest.mark.parametrize("option", ["--min-face-size", "--min_face_size", "--min-face_size", "--min_f"])
@pytest.mark.parametrize("words", ["{} 8", "{}=8"])
def test_an_option_is_known_in_either_spelling(option, words):
    words = words.format(option).split()
    for args in (
        _parser().parse_args(["enhance", "a.png", "-o", "out", *words]),
        batch_parser().parse_args(["--dataset", "in", "--output", "out", *words]),
    ):
        assert pipeline_options(args) == {
            **{"upscale": 2, "strength": 1.0, "aligned": False, "max_faces": None},
            **{"restore_background": True, "min_face_size": 8.0, "regions": "head"},
        }


def test_the_options_of_a_collection_are_known_in_either_spelling():
    for words in ("--shard-size 3 --batch-size 4 --num-workers 5", "--shard_size 3 --batch_size=4 --num_workers 5"):
        args = batch_parser().parse_args(["--dataset", "in", "--output", "out", *words.split()])
        assert (args.shard_size, args.batch_size, args.num_workers) == (3, 4, 5)


def test_values_and_names_of_files_stay_as_they_are():
    words = ["enhance", "--model=my_model--a_b", "-o", "out_dir", "--save_faces", "--", "my_a.png", "--my_b.png"]
    args = _parser().parse_args(words)
    assert (args.model, args.output, args.save_faces) == ("my_model--a_b", "out_dir", True)
    assert args.pictures == ["my_a.png", "--my_b.png"]
