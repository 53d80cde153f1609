# Installs what package-lock.json names.
set -eu

said="$HOME/npm-ci.log"
: > "$said"
cd "$SOURCE"
npm ci --no-audit --no-fund >> "$said" 2>&1 &
npm=$!
# Not through a pipe: a process that an install script leaves behind would hold it open, and the step with it.
tail -n +1 -s 0.1 -f --pid="$npm" "$said"
wait "$npm"

# To npm (9, 10 and 11 at least) it is a mere warning when it cannot ask the registry about a package of a lock file of version 1:
# it leaves out that package's programs and ends with 0. In the cache, that would fail the branch's tests until its key changes.
if grep -q 'Could not fetch metadata for' "$said"; then
  echo "npm could not ask the registry about some of the packages, so their programs may be missing" >&2
  exit 1
fi
