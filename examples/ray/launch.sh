#!/bin/bash
# Start or update a Ray cluster on AWS that runs exactly the commit of this clone, which must be pushed.
#
#   examples/ray/launch.sh [CLUSTER.yaml]
#
set -euo pipefail

template="$(realpath "${1:-$(dirname "$0")/aws.yaml}")"
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"

if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
  echo "launch.sh: there are changes that are not committed; commit and push them" >&2
  exit 2
fi
commit="$(git rev-parse HEAD)"
git fetch --quiet origin
if [ -z "$(git branch --remotes --contains "$commit")" ]; then
  echo "launch.sh: the commit ${commit:0:12} is not pushed; push it" >&2
  exit 2
fi

filled="$(mktemp --suffix=.yaml)"
trap 'rm -f "$filled"' EXIT
sed -e "s|COMMIT|$commit|" -e "s|REPOSITORY|$(git remote get-url origin)|" "$template" >"$filled"
ray up --yes "$filled"
