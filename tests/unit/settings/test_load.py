"""Settings: what is refused before the first request, with file, line and what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from receiver.core.triggers import compile_triggers
from receiver.errors import SettingsError
from receiver.serve.secrets import SecretFiles
from receiver.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from tests.support.folders import settings_in, trigger, write_folder

CHECKOUT = Path(__file__).resolve().parents[3]
CONFIG = CHECKOUT / "config" / "receiver.yaml"

GOOD = """\
serve:
  secrets: [github]
triggers:
- name: striv
  repository: bittrance/striv
  on:
    push:
      branches:
      - main
      - "releases/**"
  template: run.yaml
  params:
    revision: head_sha
    branch:
      from: branch
      default: ""
"""
ON = GOOD[GOOD.index("  on:") : GOOD.index("  template:")]


def write(folder: Path, text: str) -> Path:
    """Write a good folder, then replace receiver.yaml."""
    file = write_folder(folder)
    file.write_text(text, encoding="utf-8")
    return file


def refused(file: Path, **environment: str) -> SettingsError:
    """Load everything that is checked before a start, which has to fail."""
    with pytest.raises(SettingsError) as caught:
        start(load_settings(file, environment))
    return caught.value


def start(settings: Settings) -> None:
    compile_triggers(settings)
    SecretFiles(settings, clock=lambda: 0.0)


def test_the_good_file_of_these_tests_is_good(tmp_path: Path) -> None:
    start(load_settings(write(tmp_path, GOOD), {}))


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("  secrets:", "  secrts:", 2, ["`secrts` is not a setting", "did you mean `secrets`?"]),
        ("serve:", "server:", 1, ["`server` is not a setting", "did you mean `serve`?"]),
        ("  template:", "  qqq: 1\n  template:", 11, ["`qqq` is not a setting", "known here: name, repository, on"]),
        ("      branches:", "      branch:", 8, ["`branch` is not a setting", "did you mean `branches`?"]),
        ("      default:", "      defualt:", 16, ["`defualt`", "did you mean `default`?"]),
        (
            "    revision:",
            "    branch: tag\n    revision:",
            15,
            ["`branch` stands here a second time (first on line 13)"],
        ),
        ("  template:", "  name: b\n  template:", 11, ["`name` stands here a second time (first on line 4)"]),
        ("- name: striv\n  repo", "- repo", 4, ["the setting `name` is missing under `triggers[0]`"]),
        (ON, "  on: push\n", 6, ["`triggers[0].on`", "got `str`", "write `on: {push: {}}`", "{branches: [main]}}`"]),
        (ON, "  on: [push]\n", 6, ["`triggers[0].on`", "got `array`", "write `on: {push: {}}`"]),
        (ON, "  on: {push: [main]}\n", 6, ["`triggers[0].on.push`", "got `array`", "write `on: {push: {}}`"]),
        ("    push:", "    pull_request:", 7, ["`pull_request` is not a setting", "push"]),
        ("  template: run.yaml\n", "", 4, ["the setting `template` is missing under `triggers[0]`"]),
        ("triggers:", "triggers: []\nx:", 3, ["`triggers`: expected `array` of length >= 1"]),
        ("bittrance/striv", "striv", 5, ["`triggers[0].repository`", "owner/name"]),
        ("name: striv", "name: Striv_1", 4, ["`triggers[0].name`", "lower-case words joined by dashes"]),
        ("serve:", "serve:\n  max_body_bytes: 25MB", 2, ["`serve.max_body_bytes`", "expected `int`, got `str`"]),
        ("serve:", "serve:\n  max_body_bytes: 1", 2, ["`serve.max_body_bytes`", ">= 1024"]),
        ("serve:", "serve:\n  listen: 8000", 2, ["`serve.listen`", "expected `str`, got `int`"]),
        ("serve:", "serve:\n  listen: localhost", 2, ["`serve.listen`", "host:port"]),
        ("serve:", "serve:\n  listen: localhost:65536", 2, ["`serve.listen`", "host:port"]),
        ("serve:", "serve:\n  body_timeout_seconds: 0", 2, ["`serve.body_timeout_seconds`", "> 0"]),
        ("serve:", "serve:\n  path: webhook", 2, ["`serve.path`: has to be the path of a URL"]),
        ("serve:", "serve:\n  path: //webhook", 2, ["`serve.path`: has to be the path of a URL", "without `//`"]),
        ("serve:", "serve:\n  path: /hooks//github", 2, ["`serve.path`: has to be the path of a URL"]),
        ("serve:", "serve:\n  path: /healthz", 2, ["`serve.path`", "neither /healthz nor /readyz"]),
        ("serve:", "serve:\n  path: /readyz", 2, ["`serve.path`", "neither /healthz nor /readyz"]),
        ("serve:", "log: {level: loud}\nserve:", 1, ["`log.level`: has to be debug, info, warning or error"]),
        ("run.yaml", "runs/none.yaml", 11, ["the template", "runs/none.yaml does not exist", "receiver.yaml's folder"]),
        ("- main", '- "ma[in"', 9, ["branches: pattern 'ma[in', character 3", "`[` is never closed"]),
        ('- "releases/**"', "- releases//", 10, ["branches: pattern 'releases//'", "ends with `/`"]),
        ("- main", "- '?main'", 9, ["pattern '?main', character 1", "write `\\?`"]),
        ("- main", "- !main", 9, ["`triggers[0].on.push.branches"]),
        ('      - main\n      - "releases/**"', '      - "!main"', 8, ["branches: the list only excludes", "'**'"]),
        ("    push:", "    push:\n      branches-ignore: [x]", 8, ["branches and branches-ignore exclude each other"]),
        ("revision: head_sha", "revison: head_sha", 13, ["has no parameter `revison`", "it has: repo-url, revision"]),
        ("revision: head_sha", "revision: sha", 13, ["`sha` is none of the names after, before", "holds a dot"]),
        ("from: branch", "from: repository..id", 14, ["`repository..id` is not a payload path"]),
        ('default: ""', "default: $(params.x)", 14, ["the default holds `$(`"]),
        ("    revision: head_sha", "    revision: {from: head_sha, to: x}", 13, ["`to` is not a setting"]),
        (
            "[github]",
            "[nothing]",
            2,
            ["nothing: the secret file cannot be read (No such file or directory)", "create it"],
        ),
        ("[github]", "[github, .]", 2, ["the secret folder holds the configuration too", "nothing but secrets"]),
        (
            "  secrets: [github]",
            "  secrets: []",
            1,
            ["no secret is configured", "name a file or folder under `serve.secrets`"],
        ),
        ("serve:\n  secrets: [github]\n", "", 1, ["no secret is configured"]),
        ("  template:", "  secrets: [nothing]\n  template:", 11, ["nothing: the secret file cannot be read"]),
        (
            "  template:",
            "  secrets: [github]\n  template:",
            11,
            ["github is named under `serve.secrets`", "leave it in one"],
        ),
        ("serve:\n", "serve:\n - x\n#", 1, ["`serve`: expected `object`, got `array`"]),
    ],
    ids=lambda value: value[:25].strip() if isinstance(value, str) else None,
)
def test_a_wrong_setting_is_refused_with_file_line_and_hint(
    tmp_path: Path, old: str, new: str, line: int, words: list[str]
) -> None:
    assert GOOD.count(old) == 1, old
    file = write(tmp_path, GOOD.replace(old, new))
    error = refused(file)
    assert str(error).startswith(f"{file}:{line}: "), str(error)
    assert [word for word in words if word not in str(error)] == [], str(error)


@pytest.mark.parametrize("path", ["/", "/hooks/github", "/hooks/", "/healthz/webhook", "/healthzz"])
def test_any_other_path_of_a_url_can_be_the_webhooks(tmp_path: Path, path: str) -> None:
    assert settings_in(tmp_path, serve={"path": path}).serve.path == path


@pytest.mark.parametrize(("text", "words"), [("", "mapping"), ("[]", "mapping"), ("triggers: []", "length >= 1")])
def test_a_file_without_triggers_is_refused(tmp_path: Path, text: str, words: str) -> None:
    error = refused(write(tmp_path, text))
    assert (error.line, words in str(error)) == (1, True)


def test_two_triggers_of_one_name_are_refused_with_both_lines(tmp_path: Path) -> None:
    again = GOOD[GOOD.index("- name") :].replace("repository: bittrance/striv", "repository: bittrance/other")
    error = refused(write(tmp_path, GOOD + again))
    assert error.line == 17
    assert "a trigger named `striv` stands on line 4 already" in error.problem


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b" \n"])
def test_an_empty_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    file = write(tmp_path, GOOD)
    (tmp_path / "github").write_bytes(content)
    error = refused(file)
    assert (error.file, error.line) == (str(file), 2)
    assert f"{tmp_path / 'github'}: the secret file is empty: anyone could sign with that" in error.problem


TEMPLATES: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"kind": "Pipeline"}, "has to be one PipelineRun of apiVersion tekton.dev/v1"),
    "an old version": ({"apiVersion": "tekton.dev/v1beta1"}, "has to be one PipelineRun of apiVersion tekton.dev/v1"),
    "no spec": ({"spec": None}, "has to have a mapping `spec`"),
    "a name": ({"metadata": {"name": "x", "generateName": "x-"}}, "give the run a `generateName` (and no `name`)"),
    "no generateName": ({"metadata": {"labels": {}}}, "give the run a `generateName`"),
    "a long generateName": ({"metadata": {"generateName": "striv-main-"}}, "longer than 9 characters"),
    "a digit first": ({"metadata": {"generateName": "1-"}}, "has to begin with a letter"),
    "upper case": ({"metadata": {"generateName": "Striv-"}}, "has to begin with a letter and hold only a-z"),
    "params as a mapping": ({"spec": {"params": {"a": "b"}}}, "`spec.params` has to be a list of name and value"),
    "params without names": ({"spec": {"params": [{"value": "b"}]}}, "`spec.params` has to be a list"),
}


@pytest.mark.parametrize(("changes", "words"), TEMPLATES.values(), ids=TEMPLATES.keys())
def test_a_wrong_template_is_refused_with_its_own_file_and_line(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    template = {
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": {"generateName": "striv-"},
        "spec": {"params": [{"name": "revision"}]},
        **changes,
    }
    error = refused(write_folder(tmp_path, template=template))
    assert error.file == str(tmp_path / "run.yaml")
    assert error.line is not None
    assert words in error.problem


def test_one_file_may_serve_several_triggers(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, triggers=[trigger("a"), trigger("b", params={})])
    assert [each.name for each in compile_triggers(settings)] == ["a", "b"]


def test_a_pattern_alone_is_a_list_of_one(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD.replace('branches:\n      - main\n      - "releases/**"', "branches: ma[in"))
    error = refused(file)
    assert error.line == 8


def test_push_without_filters_wants_everything(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, triggers=[trigger(on={"push": None})])
    (compiled,) = compile_triggers(settings)
    assert compiled.filter.branches is None


# -- the environment ---------------------------------------------------------------------------------------------------


def test_the_environment_overrides_scalars_of_every_kind(tmp_path: Path) -> None:
    environment = {
        "RECEIVER__SERVE__LISTEN": "127.0.0.1:0",
        "RECEIVER__SERVE__MAX_BODY_BYTES": "2048",
        "RECEIVER__SERVE__BODY_TIMEOUT_SECONDS": "2.5",
        "RECEIVER__WORK__LISTEN": "null",
        "RECEIVER__CLUSTER__KUBECONFIG": "/etc/kube",
        "RECEIVER__JOURNAL__KEEP_COUNT": "7",
        "RECEIVER_PORT": "tcp://10.0.0.1:80",
        "PATH": "/bin",
    }
    settings = load_settings(write(tmp_path, GOOD), environment)
    assert (settings.serve.listen, settings.serve.max_body_bytes) == ("127.0.0.1:0", 2048)
    assert (settings.serve.body_timeout_seconds, settings.work.listen) == (2.5, None)
    assert (settings.cluster.kubeconfig, settings.journal.keep_count) == ("/etc/kube", 7)


def test_an_error_found_later_names_the_variable_or_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path, "journal: {url: x}\n" + GOOD)
    from_file = load_settings(file, {}).error("$.journal.url", "is wrong")
    assert str(from_file) == f"{file}:1: is wrong"
    overridden = load_settings(file, {"RECEIVER__JOURNAL__URL": "y"}).error("$.journal.url", "is wrong")
    assert str(overridden) == "the environment variable RECEIVER__JOURNAL__URL is not usable: is wrong"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SERVE__LISTN", "x", "overrides no setting; did you mean `RECEIVER__SERVE__LISTEN`?"),
        ("SERVE", "x", "overrides no setting"),
        ("SERVE__", "x", "overrides no setting"),
        ("", "x", "overrides no setting"),
        ("SERVER__LISTEN", "x", "it has to be RECEIVER__SECTION__KEY"),
        ("TRIGGERS__0__NAME", "x", "it has to be RECEIVER__SECTION__KEY"),
        ("SERVE__SECRETS", "a,b", "cannot override a list; set it in "),
        ("SERVE__MAX_BODY_BYTES", "many", "is not usable: expected `int`"),
        ("SERVE__MAX_BODY_BYTES", "1", "is not usable: expected `int` >= 1024"),
        ("SERVE__LISTEN", "here", "is not usable: has to be host:port"),
        ("SERVE__PATH", "/readyz", "is not usable: has to be the path of a URL"),
        ("SERVE__LISTEN", "null", "is not usable: "),
        ("SERVE__LISTEN", "", "is not usable: "),
        ("LOG__LEVEL", "loud", "is not usable: has to be debug, info, warning or error"),
    ],
)
def test_a_variable_that_is_wrong_is_refused_by_its_name(tmp_path: Path, variable: str, value: str, words: str) -> None:
    name = ENVIRONMENT_PREFIX + variable
    error = refused(write(tmp_path, GOOD), **{name: value})
    assert f"the environment variable {name} " in str(error)
    assert words in str(error), str(error)
