"""The words of the command line: what they mean without any AWS, and what is refused."""

import ast
import io
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from rds_provisioner_cli.commands import cli
from rds_provisioner_cli.options import who_asks
from rds_provisioner_cli.screen import Screen
from rds_provisioner_cli.snapshot import read_file
from rds_provisioner_cli.stopped import Exit, Stopped
from stack.binaries import ROOT

PACKAGE = ROOT / "infra/cli/rds_provisioner_cli"
GOOD = b'application_databases = {\n  keycloak = { database_name = "keycloak", username = "keycloak_user" }\n}\n'


def run(*words: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command with no AWS in its surroundings."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH"}}
    folders = os.pathsep.join(str(ROOT / name) for name in ("lambda", "infra/cli"))
    return subprocess.run(
        [sys.executable, "-m", "rds_provisioner_cli", *map(str, words)],
        env={**kept, "PYTHONPATH": folders},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (path := tmp_path / "mine.tfvars").write_bytes(GOOD)
    return path


def test_a_file_is_read_in_less_than_a_second_with_no_server_and_no_account(good: Path) -> None:
    run("validate", good)  # python-hcl2 makes its tables at the first parse of an installation
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = run("validate", good)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor: this machine may be busy with other tests.
    assert ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime < 1
    assert (answer.returncode, answer.stdout) == (0, f"{good}: 1 database, 1 role\n")


def test_every_problem_of_every_file_is_named_with_the_persons_own_file_and_line(good: Path, tmp_path: Path) -> None:
    (broken := tmp_path / "broken.tfvars").write_text("application_databases = {\n  a = {\n  }\n}\n")
    answer = run("validate", good, broken)
    assert answer.returncode == 1
    assert f"{broken}:2 application_databases.a.database_name" in answer.stdout
    assert f"{broken}:2 application_databases.a.username" in answer.stdout


def test_problems_come_in_the_order_of_the_lines_and_programs_get_their_kind(tmp_path: Path) -> None:
    text = 'application_databases = {\n  a = { acess = "x" }\n  b = { database_name = var.x }\n}\n'
    (path := tmp_path / "mine.tfvars").write_text(text)
    said = run("validate", path).stdout
    lines = [int(number) for number in re.findall(r"mine\.tfvars:(\d+)", said)]
    assert lines == sorted(lines)
    assert set(lines) == {2, 3}
    failed = json.loads(run("plan", "dev", "--tfvars", path, "--json").stdout)
    assert failed["errorType"] == "InvalidSnapshot"
    assert "mine.tfvars:2 " in failed["errorMessage"]


def test_a_file_is_for_any_environment_unless_one_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "prod.tfvars.json").write_text('{"environment": "prod", "application_databases": {}}')
    assert run("validate", path).returncode == 0
    assert run("validate", "--environment", "prod", path).returncode == 0
    assert 'for environment "prod"' in run("validate", "--environment", "dev", path).stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("plan",), "Missing argument 'ENV'"),
        (("plan", "dev/../prod"), "an environment is letters"),
        (("plan", "dev", "--tfvars", "nope.tfvars"), "'nope.tfvars' does not exist"),
        (("apply", "dev", "--wait", "-1"), "--wait"),
        (("frobnicate",), "No such command"),
        (("verifier",), "stdin"),
    ],
)
def test_wrong_usage_is_said_in_a_line_or_two_with_a_status_of_its_own(words: tuple[str, ...], told: str) -> None:
    answer = run(*words)
    assert answer.returncode == Exit.USAGE
    assert told in answer.stderr
    assert len(answer.stderr.splitlines()) <= 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match=f"{tmp_path} cannot be read"):
        read_file(tmp_path)


def test_a_user_without_a_name_is_called_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert who_asks() == "uid 4711"


def test_a_password_becomes_a_verifier_and_is_not_shown() -> None:
    answer = run("verifier", text="correct horse\n")
    assert re.fullmatch(r"SCRAM-SHA-256\$4096:\S+\$\S+:\S+\n", answer.stdout)
    assert "correct horse" not in answer.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_shell_can_complete_the_command(shell: str) -> None:
    assert "_RDS_PROVISIONER_COMPLETE" in run("completion", shell).stdout


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    folders = f"{ROOT / 'lambda'}:{ROOT / 'infra/cli'}"
    program = f'#!/bin/sh\nPYTHONPATH={folders} exec {sys.executable} -m rds_provisioner_cli "$@"\n'
    (path := tmp_path / "rds-provisioner").write_text(program)
    path.chmod(0o755)
    ask = """source <(rds-provisioner completion bash)
    complete -p rds-provisioner >&2
    COMP_WORDS=(rds-provisioner dr); COMP_CWORD=1; _rds_provisioner_completion rds-provisioner; echo "${COMPREPLY[@]}"
    COMPREPLY=(); COMP_WORDS=(rds-provisioner plan --det); COMP_CWORD=2; _rds_provisioner_completion rds-provisioner
    echo "${COMPREPLY[@]}" """
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    answer = subprocess.run(["bash", "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["drift", "--detailed-exitcode"], answer.stderr


@pytest.mark.parametrize("command", [cli, *cli.commands.values()], ids=lambda command: str(command.name))
def test_every_command_and_option_says_what_it_is_for(command: click.Command) -> None:
    answer = run(*([] if command is cli else [str(command.name)]), "--help")
    assert answer.returncode == 0
    assert "rds-provisioner " in answer.stdout.split("\n", 1)[1], "an example"
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    assert [each.name for each in options if not each.help] == []


def test_the_list_of_commands_says_of_each_what_it_is_for_in_a_whole_sentence() -> None:
    listed = run("--help").stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) == len(cli.commands)
    assert [line for line in listed if not re.search(r"[^.][.?]$", line)] == []


def test_without_words_the_help_is_shown_and_nothing_is_said_of_looking_for_it() -> None:
    answer = run()
    assert answer.returncode == Exit.USAGE
    assert "Commands:" in answer.stderr
    assert "Try " not in answer.stderr


def test_a_table_breaks_what_is_to_be_copied_and_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table(["found"], [["a" * 300]])
    assert capsys.readouterr().out.count("a") == 300


def test_the_examples_of_the_help_can_be_copied() -> None:
    for name in cli.commands:
        shown = run(name, "--help").stdout
        assert "\\b" not in shown
        examples = [line for line in shown.splitlines() if re.match(r" +(\S+ )*(\S+[(])?rds-provisioner ", line)]
        assert examples, name


def test_the_exit_statuses_in_help_and_reference_are_those_of_the_code() -> None:
    said = re.search(r"Exit statuses:\n((?:  .*\n?)+)", run("--help").stdout)
    assert said
    lines = [line.split(None, 1) for line in said[1].strip().splitlines()]
    table = (ROOT / "docs/reference.md").read_text().split("<!-- table: exit statuses -->\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]
    assert [[status, text.replace("`", "")] for status, text in ((row[0].strip("`"), row[1]) for row in rows)] == lines
    assert {int(status) for status, _ in lines} == set(Exit)


def test_the_command_takes_of_the_function_its_pure_core_alone() -> None:
    imported = {
        f"{node.module}.{alias.name}"
        for path in PACKAGE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    ours = {name for name in imported if name.startswith("provisioner")}
    assert ours
    assert {name for name in ours if not name.startswith("provisioner.core.")} == set()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_beside_a_file_has_colours_alone_and_only_where_it_wants_them(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, is_coloured: bool
) -> None:
    out, err = Terminal(), io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    screen = Screen()
    screen.show_plan("  + create_role")
    screen.note("a note", "red")
    assert out.getvalue() == ("\x1b[32m  + create_role\x1b[0m\n" if is_coloured else "  + create_role\n")
    assert err.getvalue() == "a note\n"


def test_each_stream_decides_for_itself_whether_it_has_colours(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.show_plan("keycloak\n  + create_role\n  - revoke\x1b[2J")
    screen.note("a note", "red")
    captured = capsys.readouterr()
    assert captured.out == "keycloak\n  + create_role\n  - revoke [2J\n"
    assert captured.err == "a note\n"
