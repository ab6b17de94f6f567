#!/bin/sh
# Brings an overlay to a cluster, waits for it and looks whether it works; again changes nothing. See --help.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
namespace=gethrelay
manager=pyrelay-deploy

help() {
    cat <<'TEXT'
usage: deployment/kubernetes/deploy.sh [apply|verify|undo] [FLAGS]
  apply    (default) apply the overlay, wait, verify, say what to look at
  verify   look at what runs
  undo     remove it; volumes, keys and the namespace stay, unless --purge

  --overlay NAME        sidecar (default), isolated-tor, pre-generated-keys, bridge, federated
  --federation FILE     in place of overlays/federated/federation.env: how relays of other clusters are found
  --network NAME        mainnet (default), sepolia, hoodi
  --replicas N          relays (default: as many as there are, or 3); not for isolated-tor
  --image NAME          of the relay, NAME:TAG or NAME@sha256:... (default: pyrelay:0.1.0)
  --tor-image NAME      of Tor (default: pyrelay-tor:0.1.0)
  --torrc FILE          lines to add to Tor's configuration, such as bridges
  --monitor pod|service PodMonitor or ServiceMonitor for a Prometheus operator
  --api-server IP:PORT  address that relays may reach the API server at; repeatable (default: looked up)
  --context NAME        of the kubeconfig
  --timeout SECONDS     for the pods to be ready, and then for each to have a peer (default: 600)
  --no-verify           apply: do not wait for peers
  --dry-run             change nothing; manifests go to stdout, steps to stderr
  --purge               undo: volumes, Secrets and namespace, too: identities are gone for good
TEXT
}

say() { echo "deploy: $*" >&2; }
fail() { say "$*"; exit 1; }
misuse() { say "$*"; help >&2; exit 2; }
k() { kubectl ${context:+--context "$context"} "$@"; }
kn() { k -n "$namespace" "$@"; }

action=apply overlay=sidecar network=mainnet federation='' replicas='' image='' tor_image='' torrc='' monitor='' servers='' context=''
timeout=600 verifies=yes dry=no purge=no
case ${1-} in
apply | verify | undo) action=$1; shift ;;
esac
while [ "$#" -gt 0 ]; do
    case $1 in
    -h | --help) help; exit 0 ;;
    --no-verify) verifies=no ;;
    --dry-run) dry=yes ;;
    --purge) purge=yes ;;
    --overlay | --federation | --network | --replicas | --image | --tor-image | --torrc | --monitor | --api-server | --context | --timeout)
        [ "$#" -ge 2 ] || misuse "$1 needs a value"
        case $1 in
        --overlay) overlay=$2 ;;
        --federation) federation=$2 ;;
        --network) network=$2 ;;
        --replicas) replicas=$2 ;;
        --image) image=$2 ;;
        --tor-image) tor_image=$2 ;;
        --torrc) torrc=$2 ;;
        --monitor) monitor=$2 ;;
        --api-server) servers="$servers $2" ;;
        --context) context=$2 ;;
        --timeout) timeout=$2 ;;
        esac
        shift ;;
    *) misuse "$1 is no flag" ;;
    esac
    shift
done
case $overlay in sidecar | isolated-tor | pre-generated-keys | bridge | federated) ;; *) misuse "--overlay $overlay: there is none" ;; esac
case $network in mainnet | sepolia | hoodi) ;; *) misuse "--network $network: mainnet, sepolia or hoodi" ;; esac
case $monitor in '' | pod | service) ;; *) misuse "--monitor $monitor: pod or service" ;; esac
case $replicas in *[!0-9]*) misuse "--replicas $replicas is no number" ;; esac
case $timeout in '' | *[!0-9]*) misuse "--timeout $timeout is no number of seconds" ;; esac
[ -z "$replicas" ] || [ "$overlay" != isolated-tor ] || misuse "--replicas: isolated-tor has a pair for each; see its add-relay.sh"
[ -z "$federation" ] || [ "$overlay" = federated ] || misuse "--federation is for --overlay federated"
[ -z "$federation" ] || [ -r "$federation" ] || misuse "--federation $federation: can not be read"
[ -z "$torrc" ] || [ -r "$torrc" ] || misuse "--torrc $torrc: can not be read"
for each in $servers; do
    ip=${each%:*} ip=${ip#[} ip=${ip%]}
    case $ip in *[!0-9a-fA-F.:]*) ip='' ;; *:*) ;; *[!0-9.]*) ip='' ;; *.*.*.*) ;; *) ip='' ;; esac
    case ${each##*:} in '' | *[!0-9]*) ip='' ;; esac
    [ -n "$ip" ] || misuse "--api-server $each: expected IP:PORT"
done
[ "$purge" = no ] || [ "$action" = undo ] || misuse "--purge is for undo"
command -v kubectl >/dev/null || fail "kubectl is missing"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Lines of IP:PORT: what the Service is replaced by, and the Service itself, since enforcers look before or after that.
api_servers() {
    if [ -n "$servers" ]; then
        for each in $servers; do echo "$each"; done
        return
    fi
    k get endpointslices -n default -l kubernetes.io/service-name=kubernetes \
        -o 'jsonpath={range .items[*]}{.ports[0].port}{range .endpoints[*]}{" "}{.addresses[0]}{end}{"\n"}{end}' >"$work/slices" || return 1
    k get service kubernetes -n default -o 'jsonpath={.spec.ports[0].port}{" "}{.spec.clusterIP}{"\n"}' >>"$work/slices" || return 1
    while read -r port addresses; do
        for each in $addresses; do echo "$each:$port"; done
    done <"$work/slices" | sort -u
}

image_of() { # NAME IMAGE: an item of kustomize's images
    case $2 in
    *@sha256:*) printf '  - {name: %s, newName: "%s", digest: "%s"}\n' "$1" "${2%@*}" "${2##*@}" ;;
    *:*/* | *[!:]*/*[!:]*) case ${2##*/} in
        *:*) printf '  - {name: %s, newName: "%s", newTag: "%s"}\n' "$1" "${2%:*}" "${2##*:}" ;;
        *) fail "$2 has no tag: whoever pulls it later may get another" ;;
        esac ;;
    *:*) printf '  - {name: %s, newName: "%s", newTag: "%s"}\n' "$1" "${2%:*}" "${2##*:}" ;;
    *) fail "$2 has no tag: whoever pulls it later may get another" ;;
    esac
}

# The overlay with what this cluster needs, rendered from a copy: nothing in the source tree changes.
render() {
    api_servers >"$work/servers" || fail "the API server's address can not be looked up; give --api-server IP:PORT"
    [ -s "$work/servers" ] || fail "the Service kubernetes has no endpoints; give --api-server IP:PORT"
    cp -R "$here" "$work/kubernetes"
    [ -z "$federation" ] || cp "$federation" "$work/kubernetes/overlays/federated/federation.env"
    mkdir "$work/kubernetes/overlays/this"
    if [ -n "$torrc" ]; then
        for each in sidecar isolated-tor/pair; do cat "$torrc" >>"$work/kubernetes/overlays/$each/torrc"; done
    fi
    {
        echo "resources: [../$overlay]"
        sed -n '/^sortOptions:/,/orderLast:/p' "$here/overlays/$overlay/kustomization.yaml" # the outermost's counts
        echo "components:"
        [ "$network" = mainnet ] || echo "  - ../../components/network-$network"
        [ -z "$monitor" ] || echo "  - ../../components/$monitor-monitor"
        echo "images:"
        [ -z "$image" ] || image_of pyrelay "$image"
        [ -z "$tor_image" ] || image_of pyrelay-tor "$tor_image"
        if [ -n "$replicas" ]; then
            printf 'replicas:\n  - {name: gethrelay-only-onion, count: %s}\n' "$replicas"
        fi
        echo "patches:"
        echo "  - target: {kind: NetworkPolicy, name: api-server}"
        echo "    patch: |-"
        echo "      - op: replace"
        echo "        path: /spec/egress"
        echo "        value:"
        while IFS= read -r each; do
            ip=${each%:*} port=${each##*:}
            ip=${ip#[} ip=${ip%]}
            case $ip in *:*) block=$ip/128 ;; *) block=$ip/32 ;; esac
            echo "          - {to: [{ipBlock: {cidr: \"$block\"}}], ports: [{protocol: TCP, port: $port}]}"
        done <"$work/servers"
    } >"$work/kubernetes/overlays/this/kustomization.yaml"
    kubectl kustomize "$work/kubernetes/overlays/this" >"$work/manifests.yaml" || fail "the overlay can not be rendered"
}

sets() { # names of the StatefulSets that the overlay has
    awk '$1 == "kind:" { kind = $2 } /^  name: / && kind == "StatefulSet" { print $2; kind = "" }' "$work/manifests.yaml"
}

check_version() {
    minor=$(k get --raw /version | sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p')
    [ -n "$minor" ] || fail "the API server does not answer: is the context right?"
    [ "$minor" -ge 30 ] || fail "Kubernetes 1.$minor: sidecars and admission policies need 1.30 or later"
}

keep_replicas() {
    [ -z "$replicas" ] && [ "$overlay" != isolated-tor ] || return 0
    replicas=$(kn get statefulset gethrelay-only-onion --ignore-not-found -o 'jsonpath={.spec.replicas}' 2>/dev/null) || replicas=''
}

check_keys() {
    case $overlay in isolated-tor | pre-generated-keys) ;; *) return 0 ;; esac
    [ -z "$(kn get secret gethrelay-nodekeys --ignore-not-found -o name)" ] || return 0
    case $overlay in isolated-tor) pod=gethrelay-only-onion-%s-0 from=1 ;; *) pod=gethrelay-only-onion-%s from=0 ;; esac
    # shellcheck disable=SC2059 # the pattern is ours
    names=$(for each in 0 1 2; do printf "$pod " $((each + from)); done)
    fail "overlay $overlay takes keys from the Secret gethrelay-nodekeys, which is not there; make it by:
  deployment/scripts/make-keys.sh --out DIR --apply $names"
}

make_cluster_key() { # once: another key would make every relay a stranger to the others
    if [ -n "$(kn get secret pyrelay-cluster-key --ignore-not-found -o name)" ]; then
        say "Secret pyrelay-cluster-key is there"
        return
    fi
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' |
        kn create secret generic pyrelay-cluster-key --from-file=key=/dev/stdin >&2
}

apply() {
    [ "$dry" = yes ] || check_version
    keep_replicas
    render
    say "API server: $(tr '\n' ' ' <"$work/servers")"
    if [ "$dry" = yes ]; then
        say "would make: namespace $namespace, Secret pyrelay-cluster-key if there is none"
        say "would apply: $(grep -c '^kind:' "$work/manifests.yaml") objects, StatefulSets: $(sets | tr '\n' ' ')"
        cat "$work/manifests.yaml"
        return
    fi
    k apply --server-side --field-manager="$manager" --force-conflicts -f "$here/base/namespace.yaml" >&2
    check_keys
    make_cluster_key
    k apply --server-side --field-manager="$manager" --force-conflicts -f "$work/manifests.yaml" >&2
    for each in $(sets); do
        say "waiting for $each: Tor's first start takes a minute or two"
        kn rollout status "statefulset/$each" --timeout="${timeout}s" >&2 ||
            fail "$each is not ready after $timeout s; look at: kubectl -n $namespace describe pods; docs/kubernetes.md, Troubleshooting"
    done
    [ "$verifies" = no ] || verify
    look_at
}

metric() { # POD NAME: of the relay's own page, asked from inside of the pod: no policy lets others in
    kn exec "$1" -c pyrelay -- /opt/pyrelay/bin/python -c 'import sys, urllib.request as r
for line in r.urlopen("http://127.0.0.1:6060/debug/metrics/prometheus", timeout=5).read().decode().splitlines():
    if line.split(" ")[0] == sys.argv[1]: print(int(float(line.split(" ")[1])))' "$2"
}

verify() {
    pods=$(kn get pods -l app.kubernetes.io/name=pyrelay -o 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}')
    [ -n "$pods" ] || fail "no relay runs in $namespace"
    # A pod's own key, or its Lease where there are many.
    book=$(kn get configmap tor-peer-addresses --ignore-not-found -o jsonpath='{.data}')
    leases=$(kn get leases -l pyrelay/address-book=tor-peer-addresses -o name)
    bad=0
    for pod in $pods; do
        kn logs "$pod" -c static-nodes >"$work/log" || bad=1
        said=$(grep -o 'Built static-nodes.json with [0-9]* peers' "$work/log" | tail -n 1) || said='no list of peers in its log'
        case $book$(echo " $leases " | tr '\n' ' ') in
        *"\"$pod\""* | *"/tor-peer-addresses-$pod "*) entry='has an entry' ;;
        *) entry='HAS NO ENTRY in the address book' bad=1 ;;
        esac
        say "$pod: $entry; at its start: $said"
    done
    count=$(echo "$pods" | wc -l)
    [ "$bad" = 0 ] || fail "see docs/kubernetes.md, Troubleshooting"
    if [ "$count" -lt 2 ]; then
        say "one relay alone has nobody to meet here"
        return
    fi
    end=$(($(date +%s) + timeout))
    for pod in $pods; do
        until peers=$(metric "$pod" p2p_peers) && [ "${peers:-0}" -gt 0 ]; do
            [ "$(date +%s)" -lt "$end" ] || fail "$pod has no peer after $timeout s; see docs/kubernetes.md, Troubleshooting"
            sleep 5
        done
        say "$pod: $peers peers"
    done
}

look_at() {
    pod=$(sets | sed -n '1s/$/-0/p')
    cat >&2 <<TEXT
deploy: look at
  kubectl get pods -n $namespace -l mode=only-onion
  kubectl logs -n $namespace $pod -c static-nodes        # peers that were there at the start
  kubectl logs -n $namespace $pod -c pyrelay             # each onion connection
  kubectl get configmap tor-peer-addresses -n $namespace -o yaml
  kubectl port-forward -n $namespace $pod 6060:6060, then
    curl -s localhost:6060/debug/metrics/prometheus | grep p2p_peers
TEXT
}

check_sets() { # relays of another overlay would run on without rights and policies
    other=$(kn get statefulsets -l app.kubernetes.io/part-of=pyrelay -o 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}' |
        grep -vxF "$(sets)") || other=''
    [ -z "$other" ] || fail "not of overlay $overlay: $(echo "$other" | paste -sd ' ' -); name the overlay that was applied by --overlay"
}

undo() {
    servers=${servers:-192.0.2.1:6443} # the rules are removed, whatever they say
    render
    # Everything but the namespace: volumes and Secrets are in it.
    awk 'BEGIN { RS = "---\n" } $0 !~ /(^|\n)kind: Namespace\n/ { printf "---\n%s", $0 }' "$work/manifests.yaml" >"$work/all.yaml"
    others=$([ "$dry" = yes ] || k get serviceaccounts -A --field-selector metadata.name=gethrelay-tor-discovery \
        -o 'jsonpath={range .items[*]}{.metadata.namespace}{"\n"}{end}' | grep -vx "$namespace") || others=''
    if [ -n "$others" ]; then
        say "admission policies stay: other namespaces have relays, too: $(echo "$others" | tr '\n' ' ')"
        awk 'BEGIN { RS = "---\n" } $0 !~ /(^|\n)kind: ValidatingAdmissionPolicy/ { printf "---\n%s", $0 }' "$work/all.yaml" >"$work/own.yaml"
        mv "$work/own.yaml" "$work/all.yaml"
    fi
    if [ "$dry" = yes ]; then
        say "would delete these, and the ConfigMap tor-peer-addresses"
        [ "$purge" = no ] || say "would delete the namespace $namespace, with volumes and Secrets"
        cat "$work/all.yaml"
        return
    fi
    check_sets
    # Relays first, and the policies that hold them once no pod is left.
    awk 'BEGIN { RS = "---\n" } $0 ~ /(^|\n)kind: (StatefulSet|CronJob)\n/ { printf "---\n%s", $0 }' "$work/all.yaml" >"$work/pods.yaml"
    awk 'BEGIN { RS = "---\n" } $0 !~ /(^|\n)kind: (StatefulSet|CronJob)\n/ { printf "---\n%s", $0 }' "$work/all.yaml" >"$work/rest.yaml"
    k delete --ignore-not-found --wait=true --timeout="${timeout}s" -f "$work/pods.yaml" >&2
    # A set is gone before its pods are; each takes up to 30 s to say goodbye.
    kn wait --for=delete pods -l app.kubernetes.io/part-of=pyrelay --timeout="${timeout}s" >&2 || fail "pods are left after $timeout s"
    k delete --ignore-not-found --wait=true --timeout="${timeout}s" -f "$work/rest.yaml" >&2
    kn delete configmap tor-peer-addresses --ignore-not-found >&2
    kn delete configmap -l app.kubernetes.io/part-of=pyrelay --ignore-not-found >&2 # torrc of earlier flags, too
    kn delete leases -l pyrelay/address-book=tor-peer-addresses --ignore-not-found >&2
    if [ "$purge" = yes ]; then
        k delete namespace "$namespace" --ignore-not-found --timeout="${timeout}s" >&2
        say "gone, with all keys"
    else
        say "volumes, Secrets and the namespace stay: deploy.sh apply brings the same relays back; --purge removes them"
    fi
}

"$action"
