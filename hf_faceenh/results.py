"""What training/evaluate.py measured, as it stands in a results.json."""

import json
from pathlib import Path
from typing import Any


def read_results(path: str | Path) -> dict[str, Any]:
    """A results.json of training/evaluate.py.

    Raises:
        ValueError, OSError: with one line for a file that is missing or something else.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        for row in results["rows"]:
            if not {"model", "level", "pictures", "metrics"} <= row.keys():
                raise KeyError("a row lacks model, level, pictures or metrics")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a results.json of training/evaluate.py: {error}.") from error
    return results
