"""The lines of a container's conf file: which are put in, which are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.runtimes.nixos.containers.config_files import rewritten, value_in

CREATED = """\
PRIVATE_NETWORK=1
HOST_ADDRESS=10.233.1.1
LOCAL_ADDRESS=10.233.1.2
HOST_BRIDGE=
HOST_PORT=
AUTO_START=0
"""
OWNED = {"PRIVATE_NETWORK": "0", "HOST_ADDRESS": "", "LOCAL_ADDRESS": "", "EXTRA_NSPAWN_FLAGS": "--bind=/a:/b --quiet"}


def test_owned_lines_are_put_in_and_all_others_kept() -> None:
    """Lines that are there keep their place, new ones come last, and what is somebody else's is left as it is."""
    mine = "# by hand\nINTERFACES=eth7\n" + CREATED + "  ODD = 1\nno line at all\n"
    assert rewritten(mine, OWNED) == (
        "# by hand\nINTERFACES=eth7\nPRIVATE_NETWORK=0\nHOST_ADDRESS=\nLOCAL_ADDRESS=\nHOST_BRIDGE=\nHOST_PORT=\n"
        'AUTO_START=0\n  ODD = 1\nno line at all\nEXTRA_NSPAWN_FLAGS="--bind=/a:/b --quiet"\n'
    )


def test_a_key_that_is_there_twice_ends_up_there_once() -> None:
    """The last one would win: so none of them may stay."""
    assert rewritten("A=1\nB=2\n A = 3\n", {"A": "4"}) == "A=4\nB=2\n"


def test_a_line_that_goes_on_is_one_line() -> None:
    """After a backslash at its end a line goes on: what looks like a key there is none, and goes with its line."""
    text = "X=a\\\nA=1\nA=b\\\nB=2\n"
    assert rewritten(text, {"A": "4"}) == "X=a\\\nA=1\nA=4\n"


def test_a_missing_end_of_line_is_put_in() -> None:
    """A file that was written by hand may lack the last one; ours does not become part of that line."""
    assert rewritten("B=2", {"A": "1"}) == "B=2\nA=1\n"
    assert rewritten("", {"A": "1"}) == "A=1\n"


@pytest.mark.parametrize("value", ["a\nB=1", 'a"b', "a$b", "a\\", "a'b", "a`b", "a#b"])
def test_a_value_that_would_not_come_through_is_refused(value: str) -> None:
    """Nothing is escaped here, as one reader would take it differently from the other: such a value is a mistake."""
    with pytest.raises(ValueError, match="cannot hold"):
        rewritten("", {"A": value})


@given(st.text(st.sampled_from('AB=\\\n #"x'), max_size=60), st.dictionaries(st.sampled_from("ABC"), st.just("1 2")))
def test_rewriting_again_changes_nothing(text: str, owned: dict[str, str]) -> None:
    """It may be done before every start; what was written is found, whatever else is in the file."""
    once = rewritten(text, owned)
    assert rewritten(once, owned) == once
    if not text.rstrip("\n").endswith("\\"):
        assert all(value_in(once, key) == value for key, value in owned.items())
