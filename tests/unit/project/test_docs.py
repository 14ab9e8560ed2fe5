"""The documentation and the program: what one has, the other has too."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from unittest.mock import MagicMock

import click
import pytest
from pydantic import BaseModel

import hive_core.api
from hive_agent.backends.transcript import KINDS
from hive_agent.environment import AgentEnvironment
from hive_agent.role import AGENT, Role
from hive_agent.tools.server import build
from hive_agent.turns.failure_policy import REACTIONS
from hive_agent.web import app as pages
from hive_agent.web.door import Door
from hive_core.api.endpoint import Endpoint
from hive_core.api.sockets import with_document
from hive_core.cli import ALIASES, COMMANDS, SECTIONS, main
from hive_core.protocol import (
    AgentConfig,
    EventKind,
    HarnessState,
    Lifecycle,
    McpServer,
    ScriptChange,
    ScriptDecision,
    ScriptFile,
    ScriptHost,
    ScriptProposal,
    ScriptRule,
    ScriptSend,
    ScriptWork,
)
from hive_core.protocol.config.host_access import OfferedBind
from hive_core.protocol.models.budgets import BudgetSettings
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.providers import ModelRates, ProviderSettings
from hive_core.protocol.models.settings import RelaySettings
from hive_core.protocol.network.settings import Egress, EgressLimitSettings
from hive_core.protocol.people.dashboard import DashboardSettings
from hive_core.protocol.people.settings import AccountSettings
from hive_core.protocol.work.settings import RepositorySettings
from hive_core.settings import (
    Approval,
    AutoRule,
    Budgets,
    Checks,
    LimitCeilings,
    NixOS,
    Settings,
)
from hive_manager.role import MANAGER
from tests.unit.project import cli_page

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("hive_core", "hive_agent", "hive_manager")

REFUSALS = {
    "HiveError", "PageError", "conflict", "forbidden", "not_found", "WrongMethod", "TooManyRequests", "_final_answer",
}  # fmt: skip
"""What refuses a request or a start; the first argument is the code."""
FAILURES = {"Failure", "NoDaemon", "AskTimedOut", "CoreError", "Failed", "AgentFailed"}
"""What fails in the command line or in a harness, with a code or kind first."""
FIGURES = {"CounterMetricFamily": "_total", "GaugeMetricFamily": "", "HistogramMetricFamily": "", "watch": ""}
"""What makes a metric, and what Prometheus puts behind its name."""


# --- reading the documentation ------------------------------------------------------------------------------


@cache
def text(name: str) -> str:
    """One page of docs."""
    return (ROOT / "docs" / f"{name}.md").read_text()


@cache
def everything() -> str:
    """All pages."""
    return "\n".join(page.read_text() for page in PAGES)


def section(page: str, heading: str) -> str:
    """The text below a heading, to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no section {heading!r}"
    return found.group(1)


def tables(page: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Every table as the name of its first column and its rows."""
    for found in re.finditer(r"^\|(.*)\|\n\|[-| ]+\|\n((?:\|.*\|\n?)*)", page, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.group(2).splitlines()]
        yield found.group(1).split("|")[0].strip(), rows


def rows(page: str, first_column: str) -> dict[str, list[str]]:
    """The rows of all tables whose first column has this name, by what stands in it, without its quotes."""
    return {row[0].strip("`"): row for name, found in tables(page) if name == first_column for row in found}


def quoted(page: str) -> set[str]:
    """Everything between backticks, but for code blocks."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)))


def commands(page: str) -> Iterator[list[str]]:
    """Every call of hive-c0re in code blocks and between backticks, as words."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    # In a block, only where a command begins: after a prompt, a path or variables.
    calls = [found.group(1) for line in lines if (found := re.match(r"\$ (?:[A-Z_]+=\S* )*(hive-c0re .*)", line))]
    calls += [line.partition("=")[2].rpartition("/")[2] for line in lines if line.startswith("ExecStart=")]
    calls += [code for code in quoted(page) if code.startswith("hive-c0re ")]
    for call in calls:
        yield shlex.split(call, comments=True)


# --- reading the program ------------------------------------------------------------------------------------


@cache
def calls() -> list[tuple[str, list[str]]]:
    """Every call in the packages: the name of what is called, and the texts that its first argument can be."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and node.args:
                    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    found.append((name, list(constants(node.args[0]))))
    return found


def constants(node: ast.expr) -> Iterator[str]:
    """A text, or the two of `a if condition else b`."""
    if isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def first_arguments(names: Iterable[str]) -> set[str]:
    wanted = set(names)
    return {value for name, values in calls() if name in wanted for value in values}


def endpoints() -> set[str]:
    """`METHOD path` of every endpoint: each function of the sockets package that makes a table of them is called."""
    tables: list[Endpoint] = with_document("", [])
    for module in pkgutil.walk_packages(hive_core.api.__path__, "hive_core.api."):
        for _, make in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            returns = inspect.get_annotations(make).get("return")
            if make.__module__ == module.name and returns == "list[Endpoint]" and make is not with_document:
                tables += call_with_fakes(make)
    return {f"{endpoint.method} {endpoint.path}" for endpoint in tables}


def call_with_fakes(make: Callable[..., list[Endpoint]]) -> list[Endpoint]:
    """The table; its handlers are never called, so anything will do for what they use."""
    positional, named = [], {}
    for parameter in inspect.signature(make).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = MagicMock()
        else:
            positional.append(MagicMock())
    return make(*positional, **named)


def cli() -> Mapping[str, click.Command]:
    """Every command that does something, by its words: those of a group have two."""
    assert isinstance(main, click.Group)
    return dict(below(main))


def below(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from below(command, f"{name} ")
        else:
            yield before + name, command


def meant(words: list[str]) -> str | None:
    """The command that `hive-c0re` with these plain words runs, if there is one."""
    if not words:
        return None
    default = f"{words[0]} list"  # What a group that has a list does when it is not said what.
    # `queue` and `net` have the agent between their words.
    inside = " ".join([words[0], *words[2:3]])
    shown = (default, f"{words[0]} edit", f"{words[0]} allow")
    found = (" ".join(words[:2]), inside, ALIASES.get(words[0], words[0]), *shown)
    return next((name for name in found if name in cli()), None)


def options(command: click.Command) -> set[str]:
    given = {name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts}
    return given | {"-h", "--help"}


async def tools(role: Role) -> set[str]:
    server = build(role, AgentEnvironment.read({}), MagicMock())
    return {tool.name for tool in await server.list_tools()}


def written(value: object) -> str:
    """A default as the tables show it: as in TOML, nothing where there is none, and of a table all of its defaults."""
    if isinstance(value, BaseModel):
        return "`{}`"
    return "" if value is None else f"`{json.dumps(str(value) if isinstance(value, Path) else value)}`"


def defaults(model: type[BaseModel]) -> dict[str, str]:
    return {
        name: "" if field.is_required() else written(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
    }


# --- settings, configuration, words -------------------------------------------------------------------------


def documented(page: str, column: str) -> dict[str, str]:
    """Keys and defaults, as the table with this first column has them."""
    return {name: row[1] for name, row in rows(text(page), column).items()}


def nested(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and every model in its fields, however deep."""
    found = {model}
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= nested(part)
    return found


def parts(annotation: object) -> Iterator[object]:
    """A type and everything that it is made of: `list[X] | None` is made of X, too."""
    yield annotation
    for inner in get_args(annotation):
        yield from parts(inner)


SETTINGS: dict[type[BaseModel], str] = {
    Settings: "setting",
    Approval: "key of approval",
    AutoRule: "key of an approval rule",
    NixOS: "key of nixos",
    LimitCeilings: "key of limits and ceilings",
    Checks: "key of checks",
    DashboardSettings: "key of dashboard",
    Budgets: "key of budgets",
    RepositorySettings: "key of repositories",
    OfferedBind: "key of a bind",
    Egress: "key of egress",
    EgressLimitSettings: "key of egress.limits",
    RelaySettings: "key of relay",
    ProviderSettings: "key of a provider",
    ModelRates: "key of rates",
    BudgetSettings: "key of budget",
    AccountSettings: "key of accounts",
    SpendingLimits: "key of a budget",
}
SETTINGS_PAGES: dict[type[BaseModel], str] = {
    RepositorySettings: "work",
    DashboardSettings: "web",
    Egress: "network",
    EgressLimitSettings: "network",
    RelaySettings: "models",
    ProviderSettings: "models",
    ModelRates: "models",
    BudgetSettings: "models",
    SpendingLimits: "agents",
    AccountSettings: "web",
}
"""The pages with their tables, where they are not on the page about operating."""
AGENT_TOML: dict[type[BaseModel], str] = {
    AgentConfig: "key", ScriptRule: "key of a rule", ScriptSend: "key of a message",
    ScriptProposal: "key of a proposal", ScriptChange: "key of a change", ScriptDecision: "key of a decision",
    ScriptWork: "key of work", ScriptFile: "key of a file", ScriptHost: "key of a host",
    McpServer: "key of an MCP server", SpendingLimits: "key of a budget",
}  # fmt: skip
"""The tables of a model and of those in it, by their first columns."""


@pytest.mark.parametrize("model", SETTINGS)
def test_settings(model: type[BaseModel]) -> None:
    """Every setting, nested ones too, is in its table with its default, and the table has no other."""
    assert documented(SETTINGS_PAGES.get(model, "operating"), SETTINGS[model]) == defaults(model)


@pytest.mark.parametrize("model", AGENT_TOML)
def test_agent_toml(model: type[BaseModel]) -> None:
    """Every key of agent.toml is in its table with its default, and the table has no other."""
    assert documented("agents", AGENT_TOML[model]) == defaults(model)


def test_no_nested_table_is_forgotten() -> None:
    """The two tests above look at every model that a setting or a key of agent.toml is made of."""
    assert set(SETTINGS) == nested(Settings)
    assert set(AGENT_TOML) == nested(AgentConfig)


def test_choices() -> None:
    """Where a setting takes one of some words, its row names them all."""
    silent = [
        (name, word)
        for model, column in SETTINGS.items()
        for name, field in model.model_fields.items()
        for word in choices(field.annotation)
        if word not in words_of(rows(text(SETTINGS_PAGES.get(model, "operating")), column)[name])
    ]
    assert silent == []


def words_of(row: list[str]) -> set[str]:
    """The words between backticks in a row of a table, without quotes."""
    return {word.strip('"') for word in quoted(" ".join(row))}


def choices(annotation: object) -> Iterator[str]:
    """The words of every Literal in a type."""
    for part in parts(annotation):
        if get_origin(part) is Literal:
            yield from (str(word) for word in get_args(part))


@pytest.mark.parametrize(("words", "column"), [(Lifecycle, "lifecycle"), (HarnessState, "state")])
def test_words_for_agents(words: Any, column: str) -> None:
    """Every lifecycle and state is explained, and no other."""
    shown = {
        word for name, found in tables(text("agents")) if name == column for row in found for word in quoted(row[0])
    }
    assert shown == set(get_args(words))


def test_event_kinds() -> None:
    """Every kind of event is explained, and no other."""
    found = next(rows for name, rows in tables(section(text("messages"), "Events")) if name == "kind")
    assert {kind for row in found for kind in quoted(row[0])} == set(get_args(EventKind))


def test_variables() -> None:
    """A HIVE_ variable that is documented is one that the program, `./dev` or a test that may be left out reads."""
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    sources += [ROOT / "dev", *(ROOT / "tests/unit/project/nix").glob("*.py")]
    known = {name for path in sources for name in re.findall(r"\bHIVE_[A-Z_]+\b", path.read_text())}
    known |= {f"HIVE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bHIVE_[A-Z_]*[A-Z]\b", everything())) - known == set()


# --- the command line ---------------------------------------------------------------------------------------


def sections_of_commands() -> list[str]:
    """The commands that have a section of their own beside that of docs/cli.md."""
    after = text("operating").partition("\n## Commands\n")[2].partition("\n### Exit codes\n")[0]
    return re.findall(r"^### (.*)$", after, re.MULTILINE)


def test_the_page_of_commands_is_made_from_the_program() -> None:
    """docs/cli.md is what the commands say now; `python -m tests.unit.project.cli_page` writes it anew."""
    assert cli_page.PAGE.read_text() == cli_page.render()
    listed = [name for names in SECTIONS.values() for name in names]
    assert set(COMMANDS) <= set(listed) and len(set(listed)) == len(listed)


@pytest.mark.parametrize("name", sorted(sections_of_commands()))
def test_commands(name: str) -> None:
    """A section about a command names all of its options and no others."""
    found = section(text("operating"), name)
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(quoted(found))))
    assert named - {"-c"} | {"-h", "--help"} == options(cli()[name])


def test_global_options() -> None:
    """The options before the command are documented."""
    page = section(text("operating"), "Commands")
    assert [name for name in options(main) if f"`{name}" not in page and f"[{name} " not in page] == []


def test_no_section_without_a_command() -> None:
    """The sections between the heading of the commands and their exit codes are commands, in their order."""
    found = sections_of_commands()
    assert len(found) > 30 and [name for name in cli() if name in found] == found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_that_are_shown_exist(page: Path) -> None:
    """Every call of hive-c0re in the pages names a command and options that there are."""
    for words in commands(page.read_text()):
        named = [word for word in words[1:] if re.fullmatch(r"[a-z]+(-[a-z]+)*", word)]
        given = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
        if named and not (words[1].startswith("-") and given <= options(main)):
            command = meant(named)
            assert command is not None, words
            assert given <= options(cli()[command]) | options(main), words


def test_pages_show_commands() -> None:
    """The test above does look at something: the tour has the commands of a first meeting."""
    shown = {words[1] for words in commands((ROOT / "README.md").read_text()) if len(words) > 1}
    assert shown >= {"serve", "status", "spawn", "list", "send", "ask", "inbox", "watch", "logs"}


# --- the protocol -------------------------------------------------------------------------------------------


def test_endpoints() -> None:
    """Every endpoint is in the table, and the table has no other."""
    found = endpoints()
    assert len(found) > 20
    assert set(rows(text("messages"), "endpoint")) == found


def test_endpoints_that_are_mentioned_exist() -> None:
    """No page speaks of a method and path that nothing answers."""
    mentioned = {code for code in quoted(everything()) if re.match(r"(GET|POST|PUT|DELETE|PATCH) /", code)}
    assert mentioned - endpoints() - page_routes() == set()


def page_routes() -> set[str]:
    """`METHOD path` of everything that an agent's page answers."""
    app = pages.build(MagicMock(), Door("ada", None))
    return {f"{route.method} {route.resource.canonical}" for route in app.router.routes() if route.resource}


def test_page_routes() -> None:
    """Every route of an agent's page is in the table, and the table has no other."""
    assert len(page_routes()) > 15
    assert set(rows(text("page"), "route")) == page_routes()


def test_page_events() -> None:
    """Every kind of entry in the page's stream is explained, and no other."""
    assert set(rows(text("page"), "kind of entry")) == set(KINDS.values())


def test_error_codes() -> None:
    """Every code with which the daemon, the command line or a harness refuses or fails is explained somewhere."""
    codes = first_arguments(REFUSALS | FAILURES)
    assert len(codes) > 40
    assert {code for code in codes if f"`{code}`" not in everything()} == set()


def test_error_codes_that_are_listed_exist() -> None:
    """The tables of codes hold none that nothing raises."""
    codes = first_arguments(REFUSALS | FAILURES)
    listed = {name for page in ("messages", "operating", "page") for name in rows(text(page), "code")}
    assert {code for code in listed if not code.isdigit()} - codes == set()


def test_metrics() -> None:
    """Every figure is in one of the tables, and they have no other."""
    found = {
        value + behind
        for name, behind in FIGURES.items()
        for value in first_arguments([name])
        if value.startswith("hive_")
    }
    assert found
    assert {name for page in ("operating", "network", "web") for name in rows(text(page), "metric")} == found


def test_failures() -> None:
    """Every way in which a turn can fail is a row of the table that says what the harness does about it."""
    assert set(rows(text("agents"), "failure")) == set(REACTIONS)


async def test_tools() -> None:
    """Every MCP tool is in the table with who has it, and the table has no other."""
    everyone, manager = await tools(AGENT), await tools(MANAGER)
    expected = {name: "all" if name in everyone else "manager" for name in manager}
    assert {name: row[1] for name, row in rows(text("agents"), "tool").items()} == expected


# --- links --------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What may stand after `#` in a link to the page, as GitHub makes it from headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links(page: Path) -> None:
    """Every link inside the project leads to a file, and to a heading in it if it names one."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_every_page_is_reached() -> None:
    """The README links to every page."""
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name}" not in readme] == []


def test_promises_name_their_tests() -> None:
    """Each row of a table of promises names a test, and every test that the threat model names exists."""
    page = text("security")
    promises = [row for name, rows in tables(page) if name == "promise" for row in rows]
    assert len(promises) > 35 and all("`tests/" in row[-1] for row in promises)
    named = re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", page)
    missing = [f"{path}::{name}" for path, name in named if not _has_test(ROOT / path, name)]
    assert len(named) > 60 and missing == []


def _has_test(path: Path, name: str) -> bool:
    return path.is_file() and f"def {name or 'test_'}" in path.read_text()


def test_what_is_taken_for_granted_is_checked() -> None:
    """Each row of the table of assumptions says how it is checked, and the checks of the doctor in it are real ones."""
    found = [row for name, rows in tables(text("nixos")) if name.endswith(" is taken for granted") for row in rows]
    assert len(found) > 30 and all(len(row) == 3 and row[2] for row in found)
    lists = [part for row in found for part in re.findall(r"`doctor`: (`[a-z-]+`(?:, `[a-z-]+`)*)", row[2])]
    named = {check for part in lists for check in re.findall(r"[a-z-]{2,}", part)}
    trees = [ast.parse(path.read_text()) for path in (ROOT / "hive_core/doctor").glob("*.py")]
    known = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert len(named) > 15
    assert named - known == set()
