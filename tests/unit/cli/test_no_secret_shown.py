"""What Python shows of an object ends up in tracebacks, logs and bug reports."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from receiver.cli.common import Context
from receiver.core.signature import Secret
from receiver.errors import SettingsError
from receiver.journal.engine import journal_url, open_engine
from receiver.serve.secrets import SecretFiles
from tests.support.folders import write_folder
from tests.support.signing import SECRET

PASSWORD = "correct-horse"
URLS = [
    f"postgresql+psycopg://user:{PASSWORD}@db/receiver",
    f"postgresql+psycopg://user@/receiver?host=a:5432&host=b:5432&password={PASSWORD}",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("in_file", [True, False])
def test_no_object_shows_the_passwords_that_it_holds(tmp_path: Path, url: str, in_file: bool) -> None:
    config = write_folder(tmp_path, journal={"url": url} if in_file else {})
    context = Context(config, {} if in_file else {"RECEIVER__JOURNAL__URL": url})
    settings = context.settings
    assert settings.journal.url == url
    secrets = SecretFiles(settings, clock=time.monotonic)
    engine = open_engine(journal_url(url))
    shown = [repr(each) for each in (context, settings, settings.journal, settings.document, secrets, engine)]
    shown += [str(settings), f"{settings.journal}", repr(Secret(SECRET.encode()))]
    assert "postgresql" in repr(settings.journal)
    assert "replay_window_days=30.0" in repr(settings.journal)
    for text in shown:
        assert PASSWORD not in text
        assert SECRET not in text
    engine.dispose()


def test_an_unusable_url_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError) as refused:
        journal_url(f"mysql://user:{PASSWORD}@db/receiver")
    assert PASSWORD not in f"{refused.value!r} {refused.value}"
