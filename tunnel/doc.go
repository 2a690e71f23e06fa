// Package tunnel will join the pod networks of peered clusters: wanted peers, routes and address translations in,
// kernel state out. It knows no Kubernetes. Nothing of it is built yet: until then a pod in a peer is reached from that
// peer only, which docs/limits.md says to users.
package tunnel
