// Package provider shows a peer as a virtual node of this cluster: the Node object, its Lease, what can be allocated on
// it, the pods bound to it (through package reflector), and where its kubelet API is (package kubelet below).
//
// It is told the whole wanted state of a node as often as its caller likes (Nodes.Ensure) and says what is really there
// (Nodes.State). It does not know how a peer is found, authenticated or watched: it gets a client that works.
//
//	nodes := provider.NewNodes(provider.Config{Client: client, ClusterID: id, Log: log})
//	go nodes.Run(ctx)
//	nodes.Ensure(provider.Peer{Peer: "cloud", NodeName: "spillway-cloud", Remote: remote, Reachable: true, Offer: offer})
package provider
