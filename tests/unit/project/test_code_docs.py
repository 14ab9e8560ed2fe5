"""The documentation of the code: the layout table, the walks, "where is what", and the glossary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PACKAGES = ("hive_core", "hive_agent", "hive_manager")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
_PATH = r"(?:hive_core|hive_agent|hive_manager|tests|nix|docs|\.ci)/[\w./-]*"


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one of the same or a higher level."""
    text = page.read_text()
    found = re.search(rf"^(#+) {re.escape(heading)}\n", text, re.MULTILINE)
    assert found is not None, f"{page.name} has no section {heading!r}"
    after = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", after, re.MULTILINE)
    return after[: end.start()] if end else after


def outside_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def rows(text: str) -> list[list[str]]:
    """The rows of every table in the text, without heads, as cells."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= set("- ")]
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


# --- docs/development.md ------------------------------------------------------------------------------------


def named_paths(text: str) -> list[str]:
    return re.findall(rf"`({_PATH})`", text)


def test_files_in_the_development_page_exist() -> None:
    """Every file and folder that docs/development.md names exists."""
    found = named_paths((DOCS / "development.md").read_text())
    assert len(found) > 60
    assert [path for path in found if not (ROOT / path).exists()] == []


def test_names_in_the_development_page_exist() -> None:
    """What the page says to be in a module (`Name` in `module.py`) is defined there."""
    text = (DOCS / "development.md").read_text()
    found = re.findall(rf"`(\w+)` (?:in|of)\s+`({_PATH}\.py)`", text)
    assert len(found) >= 3
    assert [(name, path) for name, path in found if name not in definitions(path)] == []


def test_where_is_what_answers_with_files() -> None:
    """Each question of the table is answered with at least one file or folder of the packages."""
    table = rows(section(DOCS / "development.md", "Where is what"))
    assert len(table) > 30
    assert [question for question, answer in table if not named_paths(answer)] == []
    assert len({question for question, _ in table}) == len(table)


def test_ten_questions() -> None:
    """The fresh reader's check has ten questions, each answered with a file that exists."""
    text = section(DOCS / "development.md", "Ten questions")
    questions = re.findall(r"^\d+\. (.*(?:\n {3}.*)*)", text, re.MULTILINE)
    assert len(questions) == 10
    for question in questions:
        assert "?" in question
        assert [path for path in named_paths(question) if (ROOT / path).is_file()], question


# --- docs/architecture.md -----------------------------------------------------------------------------------


def packages() -> Iterator[tuple[str, str]]:
    """Every package with the first sentence of its docstring, without the full stop."""
    for package in PACKAGES:
        for init in (ROOT / package).rglob("__init__.py"):
            text = ast.get_docstring(ast.parse(init.read_text())) or ""
            name = init.parent.relative_to(ROOT).as_posix()
            yield f"`{name}/`", " ".join(text.partition("\n\n")[0].split()).removesuffix(".")


def test_layout_table() -> None:
    """The table of packages has each package once, with the first sentence of its docstring."""
    table = rows(section(DOCS / "architecture.md", "Parts"))
    assert sorted((name, text) for name, text in table) == sorted(packages())
    assert [name for name, text in table if not text] == []


def test_readme_layout_follows() -> None:
    """The README's layout names every package directly below the three, and no folder that is not one."""
    layout = section(ROOT / "README.md", "Layout")
    for package in PACKAGES:
        part = re.search(rf"^{package}/.*\n((?: .*\n)*)", layout, re.MULTILINE)
        assert part is not None, package
        folders = {init.parent.relative_to(ROOT / package) for init in (ROOT / package).rglob("*/__init__.py")}
        named = set(re.findall(r"(\w+)/", part[1]))
        assert {folder.name for folder in folders if len(folder.parts) == 1} <= named <= {path.name for path in folders}


def walks() -> dict[str, str]:
    text = section(DOCS / "architecture.md", "Three walks")
    return {part.partition("\n")[0]: part for part in text.split("\n### ")[1:]}


def steps(walk: str) -> list[str]:
    return re.findall(r"^(\d+\. .*(?:\n {3,}.*)*)", walk, re.MULTILINE)


@cache
def definitions(path: str) -> set[str]:
    """The functions, classes, methods and named values of a module."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ClassDef):
            found.add(node.name)
            found |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return found


def test_there_are_three_walks() -> None:
    """The ways of a message, a proposal and a limit are described, each in several steps with a module in bold."""
    assert len(walks()) == 3
    for name, walk in walks().items():
        assert len(steps(walk)) > 4, name
        assert [step for step in steps(walk) if len(re.findall(r"\*\*`[^`]+`\*\*", step)) != 1] == []


@pytest.mark.parametrize("name", walks())
def test_walks_name_functions_that_exist(name: str) -> None:
    """Every module and function that a walk names exists.

    A function right behind a module belongs to it, any other to the step's own module, which is in bold.
    """
    for step in steps(walks()[name]):
        (own,) = re.findall(r"\*\*`([^`]+)`\*\*", step)
        functions = re.findall(rf"(?:`({_PATH}\.py)`(?:\*\*)?,\s+)?`([A-Za-z_][\w.]*)\(\)`", step)
        assert [path for path in re.findall(rf"`({_PATH}\.py)`", step) if not (ROOT / path).is_file()] == []
        assert functions, step
        missing = [f"{module or own}: {name}" for module, name in functions if name not in definitions(module or own)]
        assert missing == [], step


@pytest.mark.parametrize("name", walks())
def test_walks_say_why_a_module_is_entered_again(name: str) -> None:
    """A walk is read in one direction: a step in a module that was left before says so, and why."""
    last, seen = "", set()
    for step in steps(walks()[name]):
        (module,) = re.findall(r"\*\*`([^`]+)`\*\*", step)
        again = module in seen and module != last
        says_so = re.match(r"\d+\. Back in \*\*", step) is not None and "because" in step
        assert again == says_so, step
        seen.add(module)
        last = module


def test_modules_are_named_in_the_walks_only() -> None:
    """Outside of the walks the page speaks of packages, so that it stays true when a module moves."""
    page = (DOCS / "architecture.md").read_text().replace(section(DOCS / "architecture.md", "Three walks"), "")
    assert set(re.findall(r"`[\w/]*\w\.py`", page)) <= {"`__init__.py`"}


# --- docs/glossary.md ---------------------------------------------------------------------------------------


def test_terms_are_explained_once() -> None:
    """Each term of the glossary has one row with a meaning."""
    terms = [row[0] for row in rows((DOCS / "glossary.md").read_text())]
    assert len(terms) > 60
    assert sorted({term for term in terms if terms.count(term) > 1}) == []
    assert [row[0] for row in rows((DOCS / "glossary.md").read_text()) if not all(row)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_links_to_the_glossary(page: Path) -> None:
    """Whoever reads a page finds its terms."""
    target = "docs/glossary.md" if page.name == "README.md" else "glossary.md"
    assert page.name == "glossary.md" or f"]({target})" in outside_blocks(page.read_text())
