#!/usr/bin/env bash
# Two revisions against each other: scripts/ab.sh REV1 REV2 [OPTIONS of `ringfort compare`]
# SERVE='serve --mode shared' says how both serve. Exit 3: REV2 is worse in a figure.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n 2,3p "$0" >&2; exit 2; }
trees="$(mktemp -d)"
trap 'rm -rf "$trees"; git worktree prune' EXIT
build() { # name, revision; both share the compiled dependencies
    git worktree add --quiet --detach "$trees/$1" "$2"
    cargo build --release --quiet --manifest-path "$trees/$1/Cargo.toml" --target-dir "$trees/target"
    cp "$trees/target/release/ringfort" "$trees/ringfort-$1"
}
build a "$1" # in a list of && a failure inside would not end it
build b "$2"
serve="${SERVE:-serve --workers 1} --addr 127.0.0.1:{port}"
cargo build --release --quiet
target/release/ringfort compare "$trees/ringfort-a $serve" "$trees/ringfort-b $serve" "${@:3}"
