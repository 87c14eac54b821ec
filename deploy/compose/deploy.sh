#!/usr/bin/env bash
# Starts the compose stack: checks what it needs, makes passwords once, waits until everything is healthy and prints the
# addresses. `./deploy.sh down` ends it and keeps its data; `./deploy.sh check` only checks.
set -euo pipefail
cd "$(dirname "$0")"

fail() {
  printf 'deploy: %s\n' "$*" >&2
  exit 1
}

need() {
  command -v "$1" > /dev/null || fail "$1 is missing: $2"
}

random_password() {
  # Letters and digits only: the password is part of a URL.
  LC_ALL=C tr -dc 'A-Za-z0-9' < <(head -c 4096 /dev/urandom) | head -c 32
}

make_passwords() {
  [ -f .env ] && return
  (
    umask 077
    printf 'REDIS_PASSWORD=%s\nGRAFANA_PASSWORD=%s\n' "$(random_password)" "$(random_password)" > .env
  )
  echo "made passwords in $PWD/.env"
}

# What .env or the environment says of a variable, else the default; the environment wins, as in compose itself.
setting() {
  local name=$1 default=$2 line
  if [ -n "${!name:-}" ]; then
    echo "${!name}"
    return
  fi
  line=$(grep -E "^$name=" .env 2> /dev/null | tail -n 1 || true)
  echo "${line:+${line#*=}}" | grep . || echo "$default"
}

check() {
  need docker "install Docker Engine or Docker Desktop"
  docker info > /dev/null 2>&1 || fail "docker does not answer: is the engine running, and may you use it?"
  docker compose version > /dev/null 2>&1 || fail "docker compose is missing: install the compose plugin (2.24 or newer)"
  local name path
  for name in STABLE_MODEL:v1 CANARY_MODEL:v2; do
    path=$(setting "${name%%:*}" "../../models/digits/artifacts/${name##*:}")
    [ -f "$path/manifest.json" ] || fail "${name%%:*}=$path holds no artifact (no manifest.json): run 'make models', or name a folder made by 'mlserve package'"
  done
  docker compose config --quiet || fail "compose.yaml is not valid with the present settings"
}

up() {
  docker compose up --build --detach --remove-orphans --wait --wait-timeout "${WAIT_SECONDS:-300}" || {
    docker compose ps --all
    docker compose logs --tail 30
    fail "not everything became healthy; the logs are above"
  }
  local address name
  address=$(setting BIND_ADDRESS 127.0.0.1)
  name=$(setting MODEL_NAME digits)
  cat << TEXT

predictions  http://$address:$(setting HTTP_PORT 8080)/v2/models/$name
page         http://$address:$(setting HTTP_PORT 8080)/
metrics      http://$address:$(setting PROMETHEUS_PORT 9091)
dashboards   http://$address:$(setting GRAFANA_PORT 3000)   user admin, password in $PWD/.env
weights      $PWD/router/routes.yaml
TEXT
}

case "${1:-up}" in
  up) make_passwords && check && up ;;
  check) make_passwords && check && echo "everything is there" ;;
  down) docker compose down ;;
  *) fail "unknown command '$1': up, check or down" ;;
esac
