"""Each fault in the README has a test that shows what is said of it."""

import ast
import re
from pathlib import Path

import pytest

from tests.readme import ROOT, section

ROWS = [line for line in section("Faults").splitlines() if line.startswith("|")][2:]
LINK = re.compile(r'\[test\]\((?P<file>[\w/.]+) "(?P<name>\w+)"\)')


def names_in(file: Path) -> set[str]:
    found = {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}
    return {name for name in found if name.startswith("test_")}


def test_there_are_faults():
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS)
def test_each_fault_is_backed_by_a_test_that_exists(row):
    links = LINK.findall(row)
    assert links, "name the test in the last column"
    assert row.count("|") == 5
    for file, name in links:
        assert name in names_in(ROOT / file)
