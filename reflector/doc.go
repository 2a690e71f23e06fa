// Package reflector keeps the twins of one pair of clusters equal with the fewest API writes.
//
// A Home is the consumer's side, shared by all pairs: its namespaces, ConfigMaps and Secrets, one queue of keys and the
// workers. A Pair is one virtual node and the peer behind it: one watch of the local pods bound to the node, and per
// tenant namespace one watch of the twins, one per kind of object that follows, and one of Warnings.
//
// A worker takes a key, gathers what the caches say, asks a pure function (plan for pods, planObject for all other
// kinds) for ONE next step, and does it. Volumes are made here too, where the first pod of a claim lands (volumes.go): only
// this package knows where the twin of a claim is, and when it is gone. Warnings about twins are told at home by an
// eventLoop beside it, which no pod waits for. The package does not know why a pod is on the node, how the peer is
// reached or who pays; it knows no kind of spillway.dev.
//
//	home := reflector.NewHome(reflector.HomeConfig{Client: client, Origin: clusterID, Log: log})
//	go home.Run(ctx)
//	pair := home.Attach(reflector.PairConfig{Node: "spillway-cloud", Peer: "cloud", Remote: remote})
//	go pair.Run(ctx)
//	pair.SetNamespaces(map[string]string{"shop": "shop-1f2e3d4c"})
package reflector
