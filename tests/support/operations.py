"""docs/operations.md as whoever is on call reads it: its pages, and what they say to type."""

from __future__ import annotations

import re

from tests.support.documents import ROOT

TEXT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
_PARTS = re.split(r"^## (.+)\n", TEXT, flags=re.MULTILINE)[1:]
PAGES = dict(zip(_PARTS[::2], _PARTS[1::2], strict=True))
"""The text of each page by its heading."""
IN_WORK = "kubectl exec -n striv-receiver deploy/receiver -c work -- receiver "
"""What stands for `receiver ` in the pages, by their first sentence."""

NOT_TYPED = {
    "fuser -v /var/lib/receiver/journal.db /var/lib/receiver/journal.db-wal /var/lib/receiver/journal.db-shm": "needs a node",
    "lsof /var/lib/receiver/journal.db": "needs a node",
    "kubectl top pod -n striv-receiver --containers": "needs metrics-server",
    "kubectl patch pvc receiver-journal -n striv-receiver --type=merge "
    """--patch='{"spec":{"resources":{"requests":{"storage":"4Gi"}}}}'""": "needs a storage class whose claims can grow",
    "receiver send push.json --url https://HOST/webhook --secret-file config/secrets/github": "typed with another URL",
    "psql 'host=HOST user=receiver_serve dbname=receiver' "
    "--command='SELECT pg_is_in_recovery(), version FROM journal'": "typed by tests/integration",
    "psql 'host=HOST user=receiver_owner dbname=receiver' "
    "--command='SELECT pid, state, wait_event, query FROM pg_stat_activity'": "typed by tests/integration",
    "kubectl apply --server-side -k k8s/monitoring": "typed by tests/controlplane_suite, which has the operator's CRDs",
}
"""The commands that tests/e2e_receiver does not type as they stand, each with the reason."""


def commands(page: str) -> list[str]:
    """Return what stands in a page to be typed: its indented lines, but for those of a manifest."""
    return re.findall(r"^ {4}(\S.*)$", re.sub(r"(?ms)^```.*?^```", "", PAGES[page]), re.MULTILINE)
