# Fetches one commit by its full id into the folder source of the workspace.
set -eu

fail() {
  echo "checkout: $*" >&2
  exit 1
}

case "$REVISION" in
  *[!0-9a-f]*) fail "revision is not the full id of a commit" ;;
esac
case "${#REVISION}" in
  40) format=sha1 ;;
  64) format=sha256 ;;
  *) fail "revision is not the full id of a commit" ;;
esac
cd "$WORKSPACE"
rm -rf source
git init --quiet --template= --object-format="$format" source
cd source
git fetch --quiet --depth=1 --no-tags --no-recurse-submodules -- "$REPO_URL" "$REVISION" ||
  fail "commit $REVISION cannot be fetched; git says why above"
commit=$(git rev-parse --verify 'FETCH_HEAD^{commit}')
[ "$commit" = "$REVISION" ] || fail "asked for $REVISION and got $commit"
git checkout --quiet --detach "$commit"
printf '%s' "$commit" > "$COMMIT_RESULT"
git log -1 --format='checked out %H of %cI'
