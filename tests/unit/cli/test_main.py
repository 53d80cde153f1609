"""The command `receiver` as a whole: help, exit codes, schema."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from receiver import __version__
from receiver.cli.main import receiver
from tests.support.folders import write_folder
from tests.unit.cli.conftest import Run

CHECKOUT = Path(__file__).resolve().parents[3]
CONFIG = CHECKOUT / "config" / "receiver.yaml"


def commands(
    command: click.Command = receiver, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "receiver")
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself(run: Run, path: tuple[str, ...], flag: str) -> None:
    done = run(*path, flag)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {' '.join(('receiver', *path))} ")
    assert "\\b" not in done.out
    assert len(str(ALL[path].help).split()) > 4
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} of {path} says nothing"


EXAMPLES = {path: command.epilog for path, command in ALL.items() if command.epilog and "Example:" in command.epilog}


@pytest.mark.parametrize("path", EXAMPLES, ids=" ".join)
def test_every_example_names_commands_and_options_that_exist(path: tuple[str, ...]) -> None:
    words = shlex.split(str(EXAMPLES[path]).partition("Example:")[2])
    assert words.pop(0) == "receiver"
    command: click.Command = receiver
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    assert command is ALL[path] or command in getattr(ALL[path], "commands", {}).values()
    known = {name for parameter in command.params for name in parameter.opts}
    assert [word for word in words if word.startswith("-") and word not in known] == []


def test_the_commands_that_need_arguments_have_an_example() -> None:
    needing = {
        path
        for path, command in ALL.items()
        if any(isinstance(parameter, click.Argument) and parameter.required for parameter in command.params)
    }
    assert needing <= EXAMPLES.keys() | {path for path in needing if path[:-1] in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=" ".join)
def test_every_example_can_be_copied_as_one_line(run: Run, path: tuple[str, ...]) -> None:
    example = str(EXAMPLES[path]).removeprefix("\b\n")
    assert example in [line.strip() for line in run(*path, "--help").out.splitlines()]


def test_each_command_to_try_stands_on_a_line_of_its_own(run: Run) -> None:
    text = run("--help").out.partition("Try it:")[2].partition("\n\n")[0]
    tried = [line.strip() for line in text.splitlines()]
    assert tried == [
        "receiver --config config/receiver.yaml check --offline",
        "receiver explain push.json",
        "receiver run",
    ]


def test_the_help_names_the_exit_codes(run: Run) -> None:
    assert re.search(r"Exit codes:\n\s+0  done\n\s+1  .*\n\s+2  .*\n\s+3  ", run("--help").out)


def test_the_documentation_names_the_same_exit_codes(run: Run) -> None:
    said = re.findall(r"^ +(\d)  (.+)$", run("--help").out, re.MULTILINE)
    assert len(said) == 4
    text = (CHECKOUT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [code for code, meaning in said if f"| {code} | {meaning} |" not in text] == []


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").out == f"receiver, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Usage: receiver"),
        (("serv",), "No such command 'serv'"),
        (("check", "--ofline"), "--offline"),
        (("deliveries", "list", "-n", "0"), "0 is not in the range"),
        (("explain", "none.json"), "'none.json' does not exist"),
        (("explain",), "Missing argument 'PAYLOAD'"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what(run: Run, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_wrong_configuration_ends_with_2_file_and_line(run: Run, tmp_path: Path) -> None:
    file = write_folder(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace("repository:", "repositry:"), encoding="utf-8")
    done = run("--config", file, "check", "--offline")
    assert done.code == 2
    assert re.fullmatch(
        rf"receiver: {re.escape(str(file))}:\d+: `repositry` is not a setting; did you mean `repository`\?\n", done.err
    )


def test_a_missing_configuration_ends_with_2(run: Run) -> None:
    done = run("check", "--offline")
    assert (done.code, done.out) == (2, "")
    assert "config/receiver.yaml: cannot be read (No such file or directory)" in done.err


def test_the_configuration_can_be_named_by_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_folder(tmp_path / "x")
    monkeypatch.setenv("RECEIVER_CONFIG", str(file))
    assert run("check", "--offline").code == 0
    monkeypatch.setenv("RECEIVER__SERVE__LISTN", "x")
    done = run("check", "--offline")
    assert (done.code, "did you mean `RECEIVER__SERVE__LISTEN`" in done.err) == (2, True)


def test_check_offline_proves_files_and_needs_no_cluster(run: Run, tmp_path: Path) -> None:
    done = run("--config", write_folder(tmp_path), "check", "--offline")
    assert done.code == 0
    assert re.fullmatch(
        r"ok {4}.*receiver.yaml: triggers striv\nok {4}journal: .*journal.db\nok {4}secrets: .*1 secret.*\n", done.out
    )


def test_check_offline_refuses_an_empty_secret(run: Run, tmp_path: Path) -> None:
    done = run("--config", write_folder(tmp_path, secrets={"github": "\n"}), "check", "--offline")
    assert (done.code, "the secret file is empty" in done.err) == (2, True)


def test_check_of_the_cluster_reads_no_secret_and_needs_a_cluster(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = run("--config", write_folder(tmp_path, secrets={}), "check", "--cluster")
    assert (done.code, "set cluster.kubeconfig" in done.err, "secret" in done.err) == (2, True, False)
    assert re.fullmatch(r"ok {4}.*receiver.yaml: triggers striv\nok {4}journal: .*journal.db\n", done.out)


def test_check_says_that_its_two_halves_exclude_each_other(run: Run, tmp_path: Path) -> None:
    done = run("--config", write_folder(tmp_path), "check", "--cluster", "--offline")
    assert (done.code, "leave both out to prove everything" in done.err) == (2, True)


def test_check_without_a_cluster_says_what_to_set(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = run("--config", write_folder(tmp_path), "check")
    assert done.code == 2
    assert "set cluster.kubeconfig" in done.err


@pytest.mark.parametrize("options", [["--offline"], ["--cluster"], []])
def test_check_refuses_a_journal_that_could_never_be_opened(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    file = write_folder(tmp_path, journal={"url": "sqlite:///journal.db"})
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if "url:" in text)
    done = run("--config", file, "check", *options)
    assert (done.code, f"{file}:{line}: journal.url has to be sqlite:////" in done.err) == (2, True)
    monkeypatch.setenv("RECEIVER__JOURNAL__URL", "foo")
    done = run("--config", file, "check", *options)
    assert done.code == 2
    assert "the environment variable RECEIVER__JOURNAL__URL is not usable: journal.url is not a database" in done.err


def test_check_shows_no_password_of_the_journal(run: Run, tmp_path: Path) -> None:
    file = write_folder(tmp_path, journal={"url": "postgresql+psycopg://receiver:hunter2@db.invalid/receiver"})
    done = run("--config", file, "check", "--offline")
    assert (done.code, "journal: PostgreSQL\n" in done.out, "hunter2" in done.out) == (0, True, False)


@pytest.mark.parametrize("command", [["check"], ["check", "--cluster"], ["work"]])
def test_a_kubeconfig_that_is_no_file_is_refused_with_file_and_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr("receiver.cli.work.set_up_logging", lambda _: None)
    file = write_folder(tmp_path, cluster={"kubeconfig": "nope"})
    assert run("--config", file, "journal", "migrate").code == 0
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if "kubeconfig:" in text)
    done = run("--config", file, *command)
    assert done.code == 2
    said = f"{file}:{line}: cluster.kubeconfig: there is no file {tmp_path}/nope; name a kubeconfig"
    assert said in done.err
    monkeypatch.setenv("RECEIVER__CLUSTER__KUBECONFIG", "/none")
    done = run("--config", file, *command)
    assert "RECEIVER__CLUSTER__KUBECONFIG is not usable: cluster.kubeconfig: there is no file /none" in done.err


@pytest.mark.parametrize("content", ["", "x", "[", "{}", "\x00"])
def test_a_kubeconfig_that_is_none_ends_with_2_and_what_to_do(run: Run, tmp_path: Path, content: str) -> None:
    file = write_folder(tmp_path, cluster={"kubeconfig": "kubeconfig"})
    (tmp_path / "kubeconfig").write_text(content, encoding="utf-8")
    done = run("--config", file, "check", "--cluster")
    assert (done.code, "no credentials for the cluster in kubeconfig: " in done.err) == (2, True)
    assert done.err.endswith("; mend that file\n")


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "receiver", "schema"], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 1


def test_the_journal_is_created_once(run: Run, tmp_path: Path) -> None:
    file = write_folder(tmp_path)
    assert run("-c", file, "journal", "migrate").out == "journal created\n"
    assert run("-c", file, "journal", "migrate").out == "journal is of this version already\n"


def test_a_journal_without_tables_or_folder_ends_with_2_and_what_to_do(run: Run, tmp_path: Path) -> None:
    file = write_folder(tmp_path)
    done = run("-c", file, "deliveries", "list")
    assert (done.code, "run `receiver journal migrate` once" in done.err) == (2, True)
    file = write_folder(tmp_path, journal={"url": f"sqlite:///{tmp_path}/none/journal.db"})
    done = run("-c", file, "deliveries", "list")
    assert (done.code, "does not exist; create it or correct journal.url" in done.err) == (2, True)
    file = write_folder(tmp_path, journal={"url": "mysql://x/y"})
    done = run("-c", file, "deliveries", "list")
    assert (done.code, "journal.url has to be sqlite:////" in done.err) == (2, True)


def test_a_backup_is_a_new_file_with_what_the_journal_holds(run: Run, tmp_path: Path) -> None:
    file = write_folder(tmp_path)
    assert run("-c", file, "journal", "migrate").code == 0
    done = run("-c", file, "journal", "backup", "copy.db")
    assert re.fullmatch(r"copy\.db: \d+ bytes, checked\n", done.out)
    again = run("-c", file, "journal", "backup", "copy.db")
    assert (again.code, "copy.db exists already" in again.err) == (1, True)
    whole = write_folder(tmp_path / "other", journal={"url": f"sqlite:///{tmp_path}/copy.db"})
    assert run("-c", whole, "journal", "migrate").out == "journal is of this version already\n"


def test_a_backup_of_nothing_or_of_postgresql_says_what_to_do(run: Run, tmp_path: Path) -> None:
    file = write_folder(tmp_path)
    done = run("-c", file, "journal", "backup", "copy.db")
    assert (done.code, "there is no journal" in done.err) == (2, True)
    assert not (tmp_path / "journal.db").exists()
    file = write_folder(tmp_path, journal={"url": "postgresql+psycopg://receiver:hunter2@db.invalid/receiver"})
    done = run("-c", file, "journal", "backup", "copy.db")
    assert (done.code, "pg_dump --format=custom" in done.err, "hunter2" in done.err) == (2, True, False)
    assert not (tmp_path / "copy.db").exists()
