#!/bin/sh
# Builds a plugin in each language whose tools this machine has, into DIR:  tests/languages/build.sh DIR
# The suite deploys what it finds there (WXHOST_LANGUAGES, or languages/ in the target directory).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
wit=$here/../../wit
mkdir -p "$1"
out=$(cd "$1" && pwd)
# The suite takes nothing that was built against another contract.
cat "$wit"/*.wit > "$out/contract.wit"

if command -v clang && command -v wasm-ld; then
  clang --target=wasm32-wasi -Os -mexec-model=reactor -Wl,--strip-all \
    -o "$out/c.wasm" "$here/c/plugin.c"
fi
if command -v cargo && rustup target list --installed | grep -q wasm32-wasip2; then
  CARGO_TARGET_DIR=$out/rust cargo build --quiet --release --target wasm32-wasip2 \
    --manifest-path "$here/rust/Cargo.toml"
  cp "$out/rust/wasm32-wasip2/release/plugin.wasm" "$out/rust.wasm"
fi
if command -v go; then
  (cd "$here/go" && GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w' \
    -o "$out/go.wasm" .)
fi
if command -v npm; then
  # A second install over the first leaves out what componentize-js needs of others.
  rm -rf "$out/javascript"
  mkdir -p "$out/javascript"
  cp "$here"/javascript/* "$out/javascript"
  (cd "$out/javascript" && npm install --silent && node build.mjs "$wit" "$out/javascript.wasm")
fi
if command -v python3; then
  python3 -m venv --clear "$out/python"
  "$out/python/bin/pip" install --quiet --requirement "$here/python/requirements.txt"
  cp "$here/python/app.py" "$out/python"
  (cd "$out/python" && "$out/python/bin/componentize-py" --wit-path "$wit" --world callback-plugin \
    componentize app -o "$out/python.wasm")
fi
