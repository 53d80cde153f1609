"""Names of refs that git allows, for properties."""

from __future__ import annotations

from hypothesis import strategies as st

from receiver.core.refs import check_ref

_CHARACTERS = st.characters(codec="utf-8", exclude_characters=" ~^:?*[\\\x7f/", min_codepoint=33)
_PARTS = st.text(_CHARACTERS, min_size=1, max_size=30).map(
    lambda part: part.replace("..", "-").replace("@{", "-").lstrip(".")
)
_TROUBLE = st.sampled_from(
    ["$(x)", "$IFS", "-", "--help", "_", "a" * 80, "ü" * 40, "日本", "🚀", "A", "0", "a.b", "`id`"]
)
LEGAL_REFS: st.SearchStrategy[str] = (
    st.builds(
        lambda kind, parts: f"refs/{kind}/{'/'.join(parts)}",
        st.sampled_from(["heads", "tags"]),
        st.lists(_PARTS | _TROUBLE, min_size=1, max_size=4),
    )
    .map(lambda ref: ref.removesuffix(".lock").rstrip("."))
    .filter(lambda ref: check_ref(ref) is None)
)
"""Full refs of branches and tags, those that nobody in their right mind would choose included."""
