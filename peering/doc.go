// Package peering says whether another cluster is usable and for what: identity and credentials, tenants and what they
// may use, liveness, conditions.
//
// For a Peering with share it is the provider: it makes the tenant's identity, rights, namespaces and quotas, and keeps
// the offer. For a Peering with borrow it is the consumer: it authenticates at the peer, watches whether it answers and
// what it offers, and hands the whole wanted state of the virtual node to VirtualNodes. It knows no pod but by its
// requests, and does not know how a virtual node is made.
//
//	controller := peering.New(peering.Config{Client: client, Peerings: peerings, ClusterID: id, Nodes: nodes, Log: log})
//	controller.Run(ctx)
package peering
