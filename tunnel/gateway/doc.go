// Package gateway lets the nodes of a cluster agree on which gateway fills which slot of the tunnel, within a second
// and without an API server.
//
// All nodes are members of one encrypted memberlist pool. A gateway claims slots in what it says of itself, each claim
// with an epoch; of two claims to a slot the higher epoch counts, for everybody and at once. A [Fence] hands out
// epochs, so that two gateways that do not hear each other cannot both win; while the fence is out of reach, most of the
// known gateways must be together, or it is the survivor of two.
//
// Who should take what is decided alike by everyone, from who is there: free slots go to those with the fewest; a
// gateway that returns to empty hands takes a slot from one that has several, never the only one of another. The new
// holder claims before the old one lets go.
//
// table is pure; [Pool] gives it a network and a clock. It knows neither WireGuard nor what a slot is good for.
//
//	p := gateway.New(gateway.Config{Node: "n1", Addr: addr, Port: 7947, Key: key, Gateway: true, Fence: leases, Changed: f})
//	p.SetCluster([]string{"n1", "n2"}, nodes, 2)
//	go p.Run(ctx)
//	for slot, holder := range p.Holders() { … }
package gateway
