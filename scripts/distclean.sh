#!/bin/sh
# Delete environment, state and caches, after listing their sizes. YES=1: do not ask for confirmation.
set -eu
cache=${OUTRIDER_CACHE:-$HOME/.cache/outrider}
found=
for folder in .venv .outrider "$cache/models" "$cache/downloads" "$cache/wheels" "$cache/dequantised"; do
    if [ -e "$folder" ]; then
        du -sh "$folder"
        found=1
    fi
done
if [ -z "$found" ]; then
    echo "nothing to delete"
    exit 0
fi
if [ "${YES:-}" != 1 ]; then
    printf 'Delete all of these? [y/N] '
    read -r answer || answer=
    case $answer in
    y | Y | yes) ;;
    *)
        echo "nothing deleted"
        exit 1
        ;;
    esac
fi
make --no-print-directory clean
rm -rf "$cache/models" "$cache/downloads" "$cache/wheels" "$cache/dequantised"
rmdir "$cache" 2>/dev/null || true
echo "deleted"
