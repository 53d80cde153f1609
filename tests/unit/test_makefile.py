"""The Makefile's own words."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_make_lock_without_uv_says_how_to_get_it_and_leaves_the_locks_alone(tmp_path: Path) -> None:
    make = shutil.which("make")
    assert make is not None
    before = (ROOT / "requirements.txt").read_bytes()
    done = subprocess.run(
        [make, "lock"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode != 0
    assert done.stdout == "make lock needs uv, which is not on PATH: pip install uv\n"
    assert (ROOT / "requirements.txt").read_bytes() == before
