# Makes the virtual environment of the tests.
set -eu

python3 -m venv --clear "$VENV"
cd "$SOURCE"
"$VENV/bin/python" -m pip install --progress-bar=off -r requirements-dev.txt pytest
# The tests do not need it, and it is a thousand files to store and unpack.
exec "$VENV/bin/python" -m pip uninstall --yes --quiet pip
