#!/bin/sh
# Makes the image without a registry: a root file system of the few Debian packages that the binary needs, the binary, and
# the labels and user of the Dockerfile beside this.
#
#   deploy/image/build.sh [--binary target/release/weft] [--tag weft:dev] [--sbom FILE]
#
# Needs apt (to fetch packages; nothing is installed), dpkg-deb, docker, and a binary built on a Debian that is not newer.
set -eu

binary=target/release/weft
tag=weft:dev
sbom=
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$2 ;;
    --tag) tag=$2 ;;
    --sbom) sbom=$2 ;;
    *) echo "build.sh: unknown argument '$1': expected --binary, --tag or --sbom" >&2 && exit 64 ;;
    esac
    shift 2
done
[ -x "$binary" ] || { echo "build.sh: no binary at $binary: run 'cargo build --release -p weft', or name one with --binary" >&2; exit 1; }
top=$(cd "$(dirname "$0")/../.." && pwd)
binary=$(realpath "$binary")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/packages" "$work/root"

# What the distroless base named in the Dockerfile holds, as far as the binary uses it.
packages='libc6 libgcc-s1 ca-certificates tzdata base-files netbase'
# apt drops privileges to fetch, and may not write into our folder then: let it know.
(cd "$work/packages" && apt-get -q -o APT::Sandbox::User=root download $packages >/dev/null)
for package in "$work"/packages/*.deb; do dpkg-deb -x "$package" "$work/root"; done
# The package lists certificates one a file, and makes this bundle of them when it is installed.
cat "$work"/root/usr/share/ca-certificates/mozilla/*.crt > "$work/root/etc/ssl/certs/ca-certificates.crt"
rm -rf "$work"/root/usr/share/doc "$work"/root/usr/share/man "$work"/root/usr/share/lintian "$work"/root/usr/share/locale
mkdir -p "$work/root/home/nonroot"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' > "$work/root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' > "$work/root/etc/group"
cp "$binary" "$work/root/usr/bin/weft"
chmod 755 "$work/root/usr/bin/weft"
# Release builds carry line tables for backtraces; full debug information would be most of the image.
command -v strip >/dev/null && strip --strip-debug "$work/root/usr/bin/weft"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$top/Cargo.toml" | head -1)
revision=$(git -C "$top" rev-parse HEAD 2>/dev/null || echo unknown)
# The last stage of the Dockerfile, with this root for its base and its binary.
{
    echo 'FROM scratch'
    echo 'COPY root/ /'
    sed -n '/^FROM \${BASE}$/,$p' "$top/deploy/image/Dockerfile" | sed -e 1d -e '/^COPY --from=build/d'
} > "$work/Dockerfile"
DOCKER_BUILDKIT=0 docker build -q --build-arg VERSION="$version" --build-arg REVISION="$revision" -t "$tag" "$work"

if [ -n "$sbom" ]; then
    "$top/deploy/image/sbom.py" --lock "$top/Cargo.lock" --version "$version" "$work"/packages/*.deb > "$sbom"
    echo "bill of materials: $sbom"
fi
docker image inspect --format "$tag: {{.Size}} bytes, {{.Architecture}}, user {{.Config.User}}" "$tag"
