#!/usr/bin/env bash
# Builds the images, creates a kind cluster, installs the chart, serves models/digits and predicts.
# `up.sh check` only says what is missing; `up.sh down` deletes the cluster.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cluster=${KIND_CLUSTER:-mlserve}
tag=${IMAGE_TAG:-kind}
export PATH="$root/.venv/bin:$PATH"

fail() {
  printf 'kind-up: %s\n' "$*" >&2
  exit 1
}

say() {
  printf '\n== %s\n' "$*"
}

check() {
  local missing=()
  command -v docker > /dev/null || missing+=("docker (Docker Engine or Docker Desktop)")
  command -v kind > /dev/null || missing+=("kind 0.27 or newer (a single binary from its release page)")
  command -v kubectl > /dev/null || missing+=("kubectl ('make setup' installs it)")
  command -v helm > /dev/null || missing+=("helm 4 ('make setup' installs it)")
  if [ ${#missing[@]} -gt 0 ]; then
    printf 'kind-up: missing: %s\n' "${missing[@]}" >&2
    echo "Without a container engine, 'make up' starts a local cluster that needs none." >&2
    exit 1
  fi
  docker info > /dev/null 2>&1 || fail "docker does not answer: is the engine running, and may you use it?"
  [ -f "$root/models/digits/artifacts/v1/manifest.json" ] || fail "models/digits has no artifact: run 'make models'"
}

build() {
  say "building images"
  local version revision
  version=$(sed -n 's/^appVersion: //p' "$root/charts/mlserve/Chart.yaml")
  revision=$(git -C "$root" rev-parse HEAD 2> /dev/null || echo unknown)
  for part in operator runtime; do
    docker build --file "$root/Dockerfile.$part" --tag "mlserve/mlserve-$part:$tag" \
      --build-arg VERSION="$version" --build-arg REVISION="$revision" "$root"
  done
}

create() {
  say "creating the cluster $cluster"
  if ! kind get clusters | grep --quiet --line-regexp "$cluster"; then
    sed "s|@MODELS@|$root/models|" "$here/cluster.yaml.tpl" |
      kind create cluster --name "$cluster" --config - --wait 120s ${KIND_NODE_IMAGE:+--image "$KIND_NODE_IMAGE"}
  fi
  kind load docker-image --name "$cluster" "mlserve/mlserve-operator:$tag" "mlserve/mlserve-runtime:$tag"
}

install() {
  say "installing the chart"
  helm upgrade --install mlserve "$root/charts/mlserve" --kube-context "kind-$cluster" \
    --namespace mlserve-system --create-namespace --values "$here/values.yaml" \
    --set image.tag="$tag" --set runtime.image.tag="$tag" --rollback-on-failure --timeout 5m
  helm test mlserve --kube-context "kind-$cluster" --namespace mlserve-system
}

apply() {
  say "serving models/digits"
  # On a cluster the artifacts are not in the container: mount them from the node for the download step.
  kubectl --context "kind-$cluster" patch --local --filename "$root/models/digits/modeldeployment.yaml" \
    --type merge --patch-file "$here/digits-patch.yaml" --output yaml |
    kubectl --context "kind-$cluster" apply --filename -
  kubectl --context "kind-$cluster" wait --for=condition=Ready modeldeployment/digits --timeout 5m
}

predict() {
  say "predicting"
  local port sample
  sample=$(find "$root/models/digits/samples" -name '*.png' | sort | head -n 1)
  kubectl --context "kind-$cluster" port-forward service/digits :80 > "$here/.port-forward" &
  local forward=$!
  trap 'kill $forward 2> /dev/null; rm -f "$here/.port-forward"' RETURN
  until port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$here/.port-forward" | head -n 1) && [ -n "$port" ]; do
    kill -0 $forward 2> /dev/null || fail "port-forward to service/digits ended"
    sleep 0.2
  done
  curl --fail --silent --show-error --form "image=@$sample" "http://127.0.0.1:$port/predict"
  echo
}

case "${1:-up}" in
  check) check && echo "everything is there" ;;
  up)
    check && build && create && install && apply && predict
    say "done: kubectl --context kind-$cluster get modeldeployments"
    ;;
  down) kind delete cluster --name "$cluster" ;;
  *) fail "unknown command '$1': up, check or down" ;;
esac
