# The usual commands, by short names. CI runs `.ci/run` and nothing else; what is checked here is checked by its steps.

_list:
    @just --list --unsorted

# What most changes need before they are sent
check:
    .ci/run format clippy docs tests

# Everything, as it is run for every change
ci:
    .ci/run

# Some of its steps, by the names that `.ci/run --list` gives
step +names:
    .ci/run {{ names }}

# The tests whose names contain a word, such as `lock::`
test word="":
    cargo test --all-features {{ word }}

# Kills, faults and power cuts; and the bugs that they must notice
rig:
    .ci/run crash-rig bites

# Millions of inputs
fuzz:
    .ci/run fuzz

# The same for hours, and 10,000 hostile files
long:
    UNTORN_LONG=1 .ci/run crash-rig bites fuzz
    UNTORN_LONG=1 cargo test --release --all-features --test hostile -- --nocapture

# What it must reach in speed, and whether it does; on a machine that does nothing else
goals:
    cargo bench -- --goals
