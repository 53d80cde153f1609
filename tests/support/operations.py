"""docs/operations.md as whoever is on call reads it: its pages, and what they say to type."""

from __future__ import annotations

import re

from tests.support.documents import ROOT, snippets

OPERATIONS = ROOT / "docs" / "operations.md"
TEXT = OPERATIONS.read_text(encoding="utf-8")
_PARTS = re.split(r"^## (.+)\n", TEXT, flags=re.MULTILINE)[1:]
PAGES = dict(zip(_PARTS[::2], _PARTS[1::2], strict=True))
"""The text of each page by its heading."""
IN_WORK = "kubectl exec -n striv-receiver deploy/receiver -c work -- receiver "
"""What stands for `receiver ` in the pages, by their first sentences."""

NOT_TYPED = {
    "fuser -v /var/lib/receiver/journal.db /var/lib/receiver/journal.db-wal /var/lib/receiver/journal.db-shm": "needs a node",
    "lsof /var/lib/receiver/journal.db": "needs a node",
    "kubectl top pod -n striv-receiver --containers": "needs metrics-server",
    "kubectl patch pvc receiver-journal -n striv-receiver --type=merge "
    """--patch='{"spec":{"resources":{"requests":{"storage":"4Gi"}}}}'""": "needs a storage class whose claims can grow",
    "receiver send push.json --event ping --url https://HOST/webhook --secret-file config/secrets/github": "typed "
    "with the URL that there is",
    "curl --include https://HOST/webhook": "typed with the URL that there is",
    "psql 'host=HOST user=receiver_serve dbname=receiver' "
    "--command='SELECT pg_is_in_recovery(), version FROM journal'": "typed by tests/integration",
    "psql 'host=HOST user=postgres dbname=receiver' --command='SELECT pid, usename, state, now() - xact_start AS open_for, "
    "wait_event, query FROM pg_stat_activity WHERE datname = current_database()'": "typed by tests/integration",
    "kubectl apply --server-side -k k8s/monitoring": "typed by tests/controlplane_suite, which has the operator's CRDs",
    "kubectl get prometheus -A -o yaml": "needs prometheus-operator",
    "psql --set owner_password=... --set serve_password=... --set work_password=... "
    "--file k8s/overlays/postgresql/roles.sql": "typed for docs/install.md, which has it too",
    "kubectl scale deployment/receiver -n striv-receiver --replicas=0": "typed for docs/install.md, which has it too",
    "receiver journal copy sqlite:////var/lib/receiver/journal.db postgresql+psycopg://receiver_owner@db/receiver": "run by "
    "tests/unit/cli and tests/integration with the databases that there are",
    "receiver journal migrate --serve-role receiver_serve --work-role receiver_work": "what the container `journal` runs",
    "receiver journal backup FILE": "typed for docs/install.md, with a file",
    "receiver explain push.json": "typed for README.md",
}
"""The commands that tests/e2e_receiver does not type as they stand here, each with the reason."""
WITHIN_SENTENCES = (
    "kubectl logs -n striv-receiver deploy/receiver -c journal",
    "kubectl describe pipelinerun NAME -n striv-ci",
    "kubectl exec -n striv-receiver deploy/receiver -c serve -- receiver check --offline",
    "receiver deliveries show ID",
    "receiver deliveries replay ID",
)
"""The commands that stand in no line of their own, with what is to be filled in."""


def commands(page: str) -> list[str]:
    """Return what stands in a page to be typed: its indented lines, but for those of a manifest."""
    return re.findall(r"^ {4}(\S.*)$", re.sub(r"(?ms)^```.*?^```", "", PAGES[page]), re.MULTILINE)


def within_sentences() -> set[str]:
    """Return the commands that stand in the text itself; a mere name, without options and arguments, is none."""
    found = {
        code
        for code in snippets(OPERATIONS)
        if re.match(r"(kubectl|receiver|psql|curl)\b.*( -| [A-Z]{2}|\.json|://)", code)
    }
    return found - {f"{IN_WORK}…"}
