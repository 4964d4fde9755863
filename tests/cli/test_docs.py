"""Nothing a user can type or set is undocumented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import headrace
from headrace.settings import Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, command


ALL = dict(commands(headrace, "headrace"))


def sections() -> dict[str, str]:
    parts = ("\n" + (REFERENCE / "cli.md").read_text()).split("\n## ")[1:]
    return {part.splitlines()[0].strip(): part for part in parts}


def test_every_command_has_its_section_and_no_other() -> None:
    assert list(sections()) == list(ALL)


@pytest.mark.parametrize("path", ALL)
def test_every_option_and_argument_is_in_the_section(path: str) -> None:
    section = sections()[path]
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert all(f"{option}" in section for option in parameter.opts), parameter.opts
            assert parameter.help and parameter.help.split(";")[0] in section, parameter.opts
        else:
            assert (parameter.metavar or parameter.name or "").upper() in section


@pytest.mark.parametrize("path", ALL)
def test_every_command_helps_with_an_example(path: str) -> None:
    assert "Examples:" in (ALL[path].help or ""), f"{path} has no example in its help"
    assert f"{path}" in sections()[path].split("```")[1]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"`HEADRACE_{name.upper()}`" in (REFERENCE / "settings.md").read_text()


def test_every_variable_that_the_code_names_is_documented() -> None:
    root = REFERENCE.parents[1]
    rooms = ["headrace", "schemas", "topology", "ledger", "assets", "ingestion", "stream_workers", "orchestration"]
    code = "".join(file.read_text() for room in [*rooms, "stack", "cli"] for file in (root / room).rglob("*.py"))
    named = set(re.findall(r"\bHEADRACE_[A-Z_]+[A-Z]\b", code))
    documented = set(re.findall(r"\bHEADRACE_[A-Z_]+[A-Z]\b", (REFERENCE / "settings.md").read_text()))
    assert len(named) > 10 and named <= documented


def test_every_command_that_a_text_names_exists() -> None:
    root = REFERENCE.parents[1]
    files = [root / "README.md", root / "CHANGELOG.md", *(root / "docs").rglob("*.md")]
    for room in (
        "headrace",
        "schemas",
        "topology",
        "ledger",
        "ingestion",
        "stream_workers",
        "orchestration",
        "stack",
        "cli",
    ):
        files += (root / room).rglob("*.py")
    text = " ".join(re.sub(r'["\']\s*\n\s*f?["\']', "", file.read_text()) for file in files)
    groups = {path.rsplit(" ", 1)[0] for path in ALL}
    named = set(re.findall(r"`(headrace [a-z]+(?: [a-z]+)?)(?= |`)", text))
    assert len(named) > 15
    assert not {name for name in named if not {name, name.rsplit(" ", 1)[0]} & {*ALL, *groups - {"headrace"}}}


def test_every_decision_is_in_the_index() -> None:
    folder = REFERENCE.parent / "adr"
    index = (folder / "README.md").read_text()
    assert [file.name for file in folder.glob("*.md") if f"({file.name})" not in index] == ["README.md"]


def test_links_of_the_documents_lead_somewhere() -> None:
    root = REFERENCE.parents[1]
    for document in [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document}: {target}"
