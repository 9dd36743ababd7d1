#!/bin/sh
# Gradescope runs this once, as root on Debian or Ubuntu, to prepare the container. AUTOGRADER is for trying it elsewhere.
set -e
home="${AUTOGRADER:-/autograder}"
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends ca-certificates
python=""
for version in 3.12 3.11 3.13; do
    if apt-get install -y --no-install-recommends "python$version" "python$version-venv"; then
        python="python$version"
        break
    fi
done
if [ -z "$python" ]; then
    echo "setup.sh: this image has no Python 3.11 or newer: choose Ubuntu 22.04 or 24.04 in Gradescope" >&2
    exit 1
fi
cd "$home/source/workshop"
"$python" workshop.py doctor || [ -f .venv/workshop.stamp ]
# A right and a wrong answer: the build fails where a submission could not be graded.
TRITON_INTERPRET=1 PYTHONPATH="$PWD" .venv/bin/python -P -m checks.grader.gradescope.run --prove
