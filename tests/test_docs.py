"""Every command, option, setting and figure is in the documentation, and every link in it leads somewhere."""

import argparse
import re
from pathlib import Path

import pytest

from mxcensus import settings
from mxcensus.cli import build_parser
from reports.definitions import DEFINITIONS

ROOT = Path(__file__).parent.parent
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def commands():
    parser = build_parser()
    (subparsers,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return subparsers.choices.items()


def options():
    for name, parser in commands():
        for action in parser._actions:
            for option in action.option_strings:
                if option.startswith("--") and option != "--help":
                    yield name, option


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_is_in_the_reference(name):
    assert f"## {name}" in REFERENCE


@pytest.mark.parametrize(("command", "option"), list(options()))
def test_every_option_is_in_its_command_s_section(command, option):
    section = re.split(r"^## ", REFERENCE, flags=re.MULTILINE)
    (mine,) = [text for text in section if text.split("\n")[0].strip() == command]
    assert f"`{option}" in mine, f"{command} {option}"


@pytest.mark.parametrize("figure", sorted({definition.id for definition in DEFINITIONS}))
def test_every_figure_is_in_the_documentation(figure):
    assert f"`{figure}`" in (ROOT / "docs" / "figures.md").read_text()


@pytest.mark.parametrize("key", sorted(settings.KEYS))
def test_every_setting_is_in_the_readme(key):
    assert f"`{key}`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_first_commands_of_the_readme_are_demo_and_test():
    block = re.search(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert [line.split("#")[0].strip() for line in block.splitlines()] == ["make demo", "make test"]
