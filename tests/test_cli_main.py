"""Exit codes, messages and help of the command line."""

import errno
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import typer

from geoembed.cli.app import build
from geoembed.cli.main import main
from geoembed.errors import CoordinateError
from geoembed.extending import hookimpl
from geoembed.testing import fake_distribution, isolated_plugins


class Failing:
    """A plugin whose commands end in every way a command can end."""

    @hookimpl
    def register_commands(self, cli):
        @cli.command()
        def raises(kind: str) -> None:
            raise {
                "ours": CoordinateError("latitude 91 in row 'a'"),
                "full": OSError(errno.ENOSPC, "No space left on device", "out.parquet"),
                "memory": MemoryError(),
                "value": ValueError("two\nlines"),
                "ctrl-c": KeyboardInterrupt(),
                "exit-3": typer.Exit(3),
                "exit-text": SystemExit("good bye"),
                "usage": typer.BadParameter("not so"),
            }[kind]

        @cli.command()
        def warns() -> None:
            warnings.warn("take care", UserWarning, stacklevel=1)

        @cli.command()
        def echo(words: list[str]) -> None:
            typer.echo(words)


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    monkeypatch.delenv("GEOEMBED_DEBUG", raising=False)
    with isolated_plugins(Failing()):
        yield


HINT = "(run it with --debug to see where)"
ENDINGS = {
    "ours": (1, "geoembed: error: latitude 91 in row 'a'\n"),
    "full": (1, f"geoembed: error: No space left on device: out.parquet {HINT}\n"),
    "memory": (1, f"geoembed: error: MemoryError {HINT}\n"),
    "value": (1, f"geoembed: error: ValueError: two lines {HINT}\n"),
    "ctrl-c": (130, "geoembed: interrupted\n"),
    "exit-3": (3, ""),
    "exit-text": (1, "geoembed: error: good bye\n"),
}


@pytest.mark.parametrize("kind", ENDINGS)
def test_endings(capsys, kind):
    code, message = ENDINGS[kind]
    assert main(["raises", kind]) == code
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--debug", "raises", "value"],
        ["raises", "value", "--debug"],
        ["raises", "--debug", "value"],
    ],
)
def test_debug_shows_the_traceback(capsys, arguments):
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith(f"geoembed: error: ValueError: two lines {HINT}\n")


def test_debug_from_the_environment(capsys, monkeypatch):
    monkeypatch.setenv("GEOEMBED_DEBUG", "1")
    assert main(["raises", "ours"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debug_behind_two_dashes_is_an_argument(capsys):
    assert main(["echo", "--", "--debug"]) == 0
    assert capsys.readouterr().out == "['--debug']\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encoder"], "No such command 'encoder'. Did you mean 'encoders'?"),
        (["encoders", "--jsn"], "No such option"),
        (["weights", "pull"], "Missing argument 'NAME'"),
        (["raises", "usage"], "not so"),
    ],
)
def test_usage_errors_are_2(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "geoembed 0.1.0\n"


def test_warnings_are_one_line(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["warns"]) == 0
    assert capsys.readouterr().err == "geoembed: warning: take care\n"


def commands(command, path="geoembed"):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


with isolated_plugins():
    COMMANDS = dict(commands(build()))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_help_ends_its_text_in_an_example(capsys, path):
    assert main([*path.split()[1:], "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    text = out.split("\nOptions:")[0].split("\nArguments:")[0]
    lines = text.split("\n  Example:\n")[1].strip("\n").splitlines()
    # Kept as typed: every line is a command, none was refilled.
    assert lines
    assert all(line.startswith("      ") for line in lines)
    assert all(line.split()[0] in {"geoembed", "GEOEMBED_OFFLINE=1"} for line in lines)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_a_short_summary(path):
    summary = COMMANDS[path].help.splitlines()[0]
    assert summary.endswith(".")
    # Longer ones are cut off in the list of commands.
    assert len(summary) <= 45 or path == "geoembed"


def test_commands_are_there():
    assert {"geoembed encoders", "geoembed weights pull", "geoembed doctor"} <= set(COMMANDS)


def test_a_reader_that_goes_away_is_no_error():
    writer = subprocess.Popen(
        [sys.executable, "-m", "geoembed", "weights", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    writer.stdout.close()
    err = writer.stderr.read()
    writer.stderr.close()
    assert writer.wait(60) == 1
    assert err == ""


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)])
def test_closed_streams_are_no_error(closed, code):
    command = f'"{sys.executable}" -m geoembed encoders {closed}'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")


def test_complaints_do_not_stray_to_stdout(capfd):
    command = f'"{sys.executable}" -m geoembed encoders nothing 2>&-'
    assert subprocess.run(command, shell=True, check=False).returncode == 1
    assert capfd.readouterr().out == ""


def test_a_real_ctrl_c(tmp_path):
    source = "import time\nfrom geoembed.extending import hookimpl\n"
    source += "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
    source += "@hookimpl\ndef register_commands(cli):\n    cli.command()(wait)\n"
    fake_distribution(tmp_path, "geoembed-waiting", {"waiting": source})
    process = subprocess.Popen(
        [sys.executable, "-m", "geoembed", "wait"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "geoembed: interrupted\n")
