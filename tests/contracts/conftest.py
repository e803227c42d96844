"""What the contract tests on texts share: fenced blocks, and the commands that a page shows."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A fence at the start of a line, its info string, and everything up to the closing fence.
_FENCE = re.compile(r"^```(\S+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(page: str) -> list[tuple[str, str]]:
    return _FENCE.findall((ROOT / page).read_text("utf-8"))


@pytest.fixture(scope="session")
def fenced_blocks() -> Callable[[str], list[tuple[str, str]]]:
    """Return a function: page (path from the root) -> (language, text) of its fenced blocks."""
    return _blocks


@pytest.fixture(scope="session")
def shell_commands() -> Callable[[str], list[list[str]]]:
    """Return a function: page (path from the root) -> commands behind ``$``, split into words."""

    def commands(page: str) -> list[list[str]]:
        texts = [body for language, body in _blocks(page) if language == "console"]
        lines = [line for text in texts for line in text.splitlines() if line.startswith("$ ")]
        return [shlex.split(line[2:], comments=True) for line in lines]

    return commands


@pytest.fixture(scope="session")
def check_command() -> Callable[[list[str]], None]:
    """Return a function that fails for a command that geoembed or the Makefile does not have."""
    from geoembed.cli.app import build

    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))

    def check(words: list[str]) -> None:
        program, *rest = words
        if program == "make":
            assert set(rest) <= targets, f"no such target: {rest}"
        if program != "geoembed":
            return
        command = build()
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        assert not hasattr(command, "commands"), f"no such command: {shlex.join(words)}"
        known = {name for parameter in command.params for name in parameter.opts}
        options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert options <= known | {"--help"}, f"unknown options in: {shlex.join(words)}"

    return check
