# Names the folders of the cache that a run may write and read, then runs the command that it is given. A hash, since a branch may hold any character; the
# prefix tells prune_cache.py which folders are for one run only.
set -eu

# The id is what the payload says; the URL is what the template says, which no push chooses.
scope() {
  # Kubernetes makes one $ of two in a variable's value, so that of two branches with a $ nobody here could say which it is.
  case "$1" in *'$'*) set -- "" ;; esac
  if [ -n "$REPOSITORY_ID" ] && [ -n "$BRANCH" ] && [ -n "$1" ]; then
    printf 'branch-%s' "$(printf '%s\n%s\n%s' "$REPO_URL" "$REPOSITORY_ID" "$1" | sha256sum | cut -c1-40)"
  else
    printf 'run-%s' "$PIPELINE_RUN_UID"
  fi
}

scope "$BRANCH" > "$CACHE_SCOPE_RESULT"
scope "$PROTECTED_BRANCH" > "$STATE/protected-cache-scope"
# The step that asks for it has an image without this Python.
python3 --version > "$STATE/python-version"
exec "$@"
