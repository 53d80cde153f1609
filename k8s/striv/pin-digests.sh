#!/bin/sh
# Resolves the tag of each image of k8s/striv to its digest, at your registry and now, and prints what pins them:
#   k8s/striv/pin-digests.sh > images.txt && cat images.txt >> k8s/striv/kustomization.yaml
# Needs kubectl, and crane or skopeo. Run it again after changing a tag, with the old entries removed.
set -eu

digest_of() {
  if command -v crane > /dev/null; then
    crane digest "$1"
  else
    skopeo inspect --format '{{.Digest}}' "docker://$1"
  fi
}

folder=$(dirname "$0")
images=$(kubectl kustomize "$folder" | sed -n 's/^[- ]*image: *//p' | sort -u)
echo "images:"
for image in $images; do
  digest=$(digest_of "$image")
  case "$digest" in
    sha256:*) ;;
    *) echo "no digest for $image: $digest" >&2; exit 1 ;;
  esac
  printf -- '- name: %s\n  digest: %s\n' "${image%:*}" "$digest"
done
