// Package tunnel joins the pod networks of peered clusters on one node: a [Topology] (who the nodes, gateways and peers
// are) becomes a [Config] (the links, WireGuard peers, routes, rules and nftables sets this node is to have), and an
// [Engine] makes the kernel equal to it and keeps it so. It knows no Kubernetes and writes nothing but kernel state.
package tunnel
