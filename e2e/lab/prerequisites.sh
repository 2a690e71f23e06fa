#!/usr/bin/env bash
# Installs the Debian packages that real nodes need. Clusters with simulated nodes need none of them.
#
# This list is the only one: command and the package that holds it.
set -euo pipefail
needed=(
	ip:iproute2        # network namespaces, bridges and routes between nodes
	nft:nftables       # kube-proxy and the portmap plug-in write nftables rules
	curl:curl          # the scenarios of the tunnel read what agents report
	sysctl:procps      # the tests of the tunnel set up networks
	nsenter:util-linux # programs enter the namespaces of a node
	mount:mount        # each node has its own mounts
)
# Tests that need one of these are skipped without it.
optional=(
	qemu-system-x86_64:qemu-system-x86 # a machine whose kernel has WireGuard
)

PATH=$PATH:/usr/sbin:/sbin
packages=()
for pair in "${needed[@]}" "${optional[@]}"; do
	command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
done
if [ ${#packages[@]} -eq 0 ]; then
	echo "prerequisites: everything that real nodes need is installed"
	exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "prerequisites: missing for real nodes: ${packages[*]}. Run as root: apt-get install ${packages[*]}. Without them nodes are simulated."
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "prerequisites: missing for real nodes: ${packages[*]} (names of Debian). There is no apt-get here: install them with this system's package manager. Without them nodes are simulated."
	exit 0
fi
echo "prerequisites: installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${packages[@]}"
