"""What clears the folders in which runs work, whatever pushed code has left there."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import need_root
from tests.support.scripts import SCRIPTS

UID, OTHER_UID = "0a000000-0000-0000-0000-000000000001", "0b000000-0000-0000-0000-000000000002"
TASKS_USER = 65532
DEEP = 3000
"""Folders in each other whose path is longer than any system call takes."""


def is_root() -> bool:
    """Tell whether these tests run as root, who may enter every folder: then the script must not."""
    return os.getuid() == 0


def delete_work(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as the Task and the CronJob do, and never as root."""
    command = ["sh", str(SCRIPTS / "delete_work.sh")]
    if is_root():
        command = ["setpriv", f"--reuid={TASKS_USER}", f"--regid={TASKS_USER}", "--clear-groups", *command]
    variables = {"PATH": os.environ["PATH"], "FOLDER": str(folder), **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, cwd="/")


def hand_over(folder: Path) -> None:
    """Give what is in a folder to the tasks' user, as if a task had made it."""
    if is_root():
        subprocess.run(["chown", "-R", "-h", str(TASKS_USER), *folder.iterdir()], check=True)


@pytest.fixture
def work() -> Iterator[Path]:
    """The claim: a folder that everybody may write, in one that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        claim = Path(folder) / "work"
        claim.mkdir()
        claim.chmod(0o777)
        yield claim


def folder_of(work: Path, uid: str) -> Path:
    """Make the folder of a run as the kubelet does."""
    folder = work / uid
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def test_whatever_the_names_and_rights_are_everything_goes(work: Path) -> None:
    run = folder_of(work, UID)
    for name in ("-rf", "new\nline", "*", " ", ".hidden", "é", "$(id)"):
        (run / name).mkdir()
        (run / name / name).touch()
    os.mkfifo(run / "fifo")
    closed = run / "source" / "closed" / "deeper"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    hand_over(run)
    for folder in (closed, closed.parent, closed.parent.parent):
        folder.chmod(0)

    done = delete_work(run)

    assert done.returncode == 0, done.stderr
    assert list(run.iterdir()) == []


def test_folders_in_folders_go_though_their_path_is_too_long_to_say(work: Path) -> None:
    run = folder_of(work, UID)
    inside = os.open(run, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=inside)
        outside, inside = inside, os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(outside)
    os.close(inside)
    hand_over(run)

    done = delete_work(run)

    assert done.returncode == 0, done.stderr
    assert list(run.iterdir()) == []


def test_links_are_deleted_and_what_they_lead_to_stays(work: Path) -> None:
    run, other = folder_of(work, UID), folder_of(work, OTHER_UID)
    (other / "source").mkdir()
    (other / "source" / "file").touch()
    hand_over(other)
    (other / "source").chmod(0o500)
    (run / "link").symlink_to(other)
    (run / "source").mkdir()
    (run / "source" / "link").symlink_to(other / "source")
    hand_over(run)

    done = delete_work(run)

    assert done.returncode == 0, done.stderr
    assert list(run.iterdir()) == []
    assert (other / "source" / "file").exists()
    assert (other / "source").stat().st_mode & 0o777 == 0o500


def test_the_hourly_clean_up_leaves_the_folders_of_runs_that_may_still_work(work: Path) -> None:
    run = folder_of(work, UID)
    (run / "file").touch()
    hand_over(run)
    # A program can set when a file was last modified, but not when it was last changed.
    os.utime(run, (0, 0))

    done = delete_work(work, OLDER_THAN_MINUTES="180")

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (run / "file").exists()


def test_the_hourly_clean_up_deletes_old_folders_of_runs_and_nothing_else(work: Path) -> None:
    for uid in (UID, OTHER_UID):
        run = folder_of(work, uid)
        (run / "file").touch()
        hand_over(run)
    (work / "lost+found").mkdir(mode=0o700)
    (work / "link").symlink_to("/etc")

    # Nothing can be made older than it is: with this limit everything is old.
    done = delete_work(work, OLDER_THAN_MINUTES="-1")

    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"deleted {work / uid}" for uid in (UID, OTHER_UID)]
    assert {path.name for path in work.iterdir()} == {"lost+found", "link"}


def test_a_folder_that_cannot_be_emptied_does_not_keep_the_others_from_it(work: Path) -> None:
    need_root("make a folder that the tasks' user may not empty")
    hopeless, other = folder_of(work, UID), folder_of(work, OTHER_UID)
    (hopeless / "roots").mkdir(mode=0o700)
    (hopeless / "roots" / "file").touch()

    done = delete_work(work, OLDER_THAN_MINUTES="-1")

    assert done.returncode == 1
    assert (hopeless / "roots" / "file").exists()
    assert not other.exists()
