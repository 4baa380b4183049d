# `just` is a convenience: each recipe is one command that one can type without it.

# List the recipes.
default:
    @just --list

# Build, then run the demonstration: three nodes, a chat, a killed leader.
demo *args:
    cargo xtask demo {{args}}

# Build, then run every test.
test *args:
    cargo xtask test {{args}}

# Formatting, lints, house rules; changes nothing.
verify:
    cargo xtask verify

# Format, and apply what clippy can mend by itself.
fix:
    cargo xtask fix

# What the continuous integration runs.
ci:
    .ci/run

# Licences and advisories of the dependencies (needs cargo-deny).
deny:
    cargo deny --all-features check

# The API documentation of our own crates.
doc:
    cargo doc --workspace --no-deps --document-private-items
