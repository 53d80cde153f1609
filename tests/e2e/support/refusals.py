"""Asking the admission policies for what they must refuse."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.support.admission import dry_run
from tests.e2e.support.cluster import ApiError, Cluster, Object

Change = Callable[[Any], object]

TOKEN = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
SECRET_REF = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "other", "key": "password"}}}


def refusal(identity: Cluster, collection: str, body: Object) -> ApiError:
    """Return the refusal of a creation that must be refused."""
    with pytest.raises(ApiError) as refused:
        dry_run(identity, collection, body)
    return refused.value


def changed(original: Object, change: Change) -> Object:
    """Return a changed copy of an object."""
    body = copy.deepcopy(original)
    change(body)
    return body
