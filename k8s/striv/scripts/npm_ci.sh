# Installs what package-lock.json names.
set -eu

cd "$SOURCE"
exec npm ci --no-audit --no-fund
