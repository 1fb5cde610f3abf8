#!/usr/bin/env bash
# ringfort beside its peers, interleaved, into benches/record: ROUNDS=3 EACH=1 scripts/peers.sh [NAME…]
# Sets all up on a fresh machine (Debian or Ubuntu, as root). What cannot be set up is listed.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=(); for tool in nginx haproxy node wrk; do command -v "$tool" >/dev/null || tools+=("${tool/%node/nodejs}"); done
[ ${#tools[@]} = 0 ] || { apt-get update -qq && apt-get install -y -qq "${tools[@]}"; } >/dev/null || true
cd benches/peers
for peer in run floor ringfort hyper axum actix ntex may monoio compio; do
    # One that does not build is listed as such: an older program of that name must not stand in.
    cargo build --release --quiet --manifest-path "$peer/Cargo.toml" "-j${JOBS:-$(nproc)}" ||
        { [ $peer != run ] && rm -f "target/release/peer-$peer"; }
done
machine="$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1 | tr -cs '[:alnum:]\n' - | tr '[:upper:]' '[:lower:]')"
record="../record/$(date +%F)-${machine%-}-$(nproc)cpu"
[ ! -e "$record.md" ] || record="$record-$(date +%H%M)"
target/release/peers-run "${RECORD:-$record.md}" "$@"
