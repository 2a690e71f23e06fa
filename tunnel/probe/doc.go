// Package probe finds out whether packets really pass between two places of a tunnel: small ones and full-size ones, in
// both directions, how long they take, how many are lost and how large they may be. It is the only judge of a path.
//
// One side of a pair, the initiator, sends questions padded to the size that is to be proven; the other answers each with
// a packet of the same size. So an exchange speaks for both directions. Questions carry what the initiator has found out,
// so that both sides know. A question that is not answered in time is followed by a few quick ones of several sizes;
// five of them lost say that the path is down, large ones alone that it swallows large packets (RFC 8899, black hole).
// Sizes are searched upward as in RFC 8899 from what every path carries.
//
// initiator and responder are pure: time and messages in, messages out. [Prober] gives them sockets and a clock that
// stands still while the process does not run. It knows neither WireGuard nor routes.
//
//	p := probe.New(probe.Options{Log: log, Changed: func(k probe.Key) { … }})
//	p.Set([]probe.Target{{Key: probe.Key{Peer: "b"}, Local: here, Remote: there, Initiate: true, MaxMTU: 1420}})
//	go p.Run(ctx)
//	state, ok := p.State(probe.Key{Peer: "b"})
package probe
