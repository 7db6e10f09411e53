"""A sample of the damaged files of `scripts/mutate.py`."""

from scripts.mutate import KINDS, attack


def test_damaged_files_of_all_kinds_end_in_values_or_words():
    assert len(KINDS) >= 20
    assert attack(200, []) == []
