// Package endpoint decides where the packets for the gateways of a peer are sent: to which of the addresses it
// announced, and over UDP or, where UDP is blocked, over TLS (package relay). It resolves names. It does not know
// whether a path is up: it is told, by who probes the path.
//
//	chooser := endpoint.New(endpoint.Options{Port: 51820, Changed: func(endpoint.Key) { wake() }})
//	go chooser.Run(ctx)
//	chooser.Set(map[endpoint.Key]endpoint.Candidates{{Peer: "berlin"}: {UDP: []string{"gw.example.org:51820"}}})
//	way := chooser.Current(endpoint.Key{Peer: "berlin"}) // way.Addr goes into WireGuard
//	chooser.Report(endpoint.Key{Peer: "berlin"}, false)  // no probe has passed; another candidate gets its turn soon
package endpoint
