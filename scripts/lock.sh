#!/bin/sh
# Writes requirements.lock from what .venv holds now. Install or upgrade there first, run the tests, then this.
set -eu
cd "$(dirname "$0")/.."
{
    echo '# Pinned Python packages of the checkout (make setup). Renew: scripts/lock.sh'
    .venv/bin/python -m pip freeze --exclude-editable --disable-pip-version-check
} >requirements.lock.new
mv requirements.lock.new requirements.lock
