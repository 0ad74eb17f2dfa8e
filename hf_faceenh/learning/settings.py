"""Checking the values of a group of settings."""

from collections.abc import Mapping


def check_settings(group: str, settings: object, rules: Mapping[str, tuple[bool, str]]) -> None:
    """
    Args:
        group: its name among the options of training/train.py, such as "loss" in `--loss.pixel`.
        settings: the dataclass that holds the values.
        rules: field → whether its value fits, and what is expected of it.

    Raises:
        ValueError: one line about the first value that does not fit.
    """
    for name, (fits, expected) in rules.items():
        if not fits:
            raise ValueError(f"{group}.{name} must be {expected}; got {getattr(settings, name)!r}.")
