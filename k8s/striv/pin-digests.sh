#!/bin/sh
# Makes an overlay that pins each image of k8s/striv to the digest that its tag has at your registry now:
#   k8s/striv/pin-digests.sh && kubectl apply --server-side -k k8s/striv-pinned
# Given the folder of an overlay instead, it pins what that makes. The result stands beside the folder, so that `images:`
# entries for mirrors stay where they are: of two `images:` in one file, kustomize takes the last and says nothing.
# Needs kubectl, and crane or skopeo. Run it again after changing a tag or a mirror: a digest holds for the name it was made for.
set -eu

fail() {
  echo "pin-digests: $*" >&2
  exit 1
}

digest_of() {
  if command -v crane > /dev/null; then
    crane digest "$1"
  else
    skopeo inspect --format '{{.Digest}}' "docker://$1"
  fi
}

own=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "${1:-$own}" && pwd)
pinned=$folder-pinned
built=$(kubectl kustomize "$folder")
images=$(printf '%s\n' "$built" | sed -n 's/^[- ]*image: *//p' | LC_ALL=C sort -u)
[ -n "$images" ] || fail "$folder has no images"
entries=
last=
for image in $images; do
  case "$image" in *@*) fail "$image is pinned already" ;; esac
  name=${image%:*}
  # An entry replaces every tag of its name.
  [ "$name" != "$last" ] || fail "$name has two tags, and one digest would replace both"
  last=$name
  digest=$(digest_of "$image")
  case "$digest" in
    sha256:*) ;;
    *) fail "no digest for $image: $digest" ;;
  esac
  entries="$entries
- {name: $name, digest: \"$digest\"}"
done

mkdir -p "$pinned"
cp "$own/images-in-tasks.yaml" "$pinned"
cat > "$pinned/kustomization.yaml" << END
# Made by pin-digests.sh, which makes it anew.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- ../$(basename "$folder")
configurations:
- images-in-tasks.yaml
images:$entries
END
echo "pinned the images of $folder in $pinned"
