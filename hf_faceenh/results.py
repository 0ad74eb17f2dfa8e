"""What training/evaluate.py measured, as it stands in a results.json."""

from pathlib import Path
from typing import Any

from hf_faceenh.errors import explained
from hf_faceenh.files import read_json_object


def read_results(path: str | Path) -> dict[str, Any]:
    """A results.json of training/evaluate.py.

    Raises:
        ValueError, OSError: in one line, for a file that is missing or holds something else.
    """
    wrong = (ValueError, TypeError, KeyError, AttributeError)
    with explained(f"{path} is not a results.json of training/evaluate.py", of=wrong):
        results = read_json_object(Path(path))
        for row in results["rows"]:
            if not {"model", "level", "pictures", "metrics"} <= row.keys():
                raise KeyError("a row lacks model, level, pictures or metrics")
    return results
