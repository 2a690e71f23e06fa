// Package relay carries WireGuard's datagrams over TLS on one TCP connection, for where UDP is blocked: UDP on loopback
// at one end, frames of a two-byte length (network order) and a datagram in between, UDP on loopback at the other. Both
// ends of the tunnel see a peer on loopback, so that the kernel's WireGuard and wireguard-go can use it alike.
//
// TLS is here to pass firewalls that look for it, not to keep secrets: nobody's certificate is checked and anybody may
// connect, as anybody may send UDP to a WireGuard port. WireGuard inside encrypts and authenticates. A server gives
// little to sessions through which nothing valid has passed yet: see [Server].
//
//	client, err := relay.Dial(relay.Options{Server: "gw.example.org:443", WireGuard: netip.MustParseAddrPort("127.0.0.1:51820")})
//	go client.Run(ctx) // and give client.LocalAddr() to WireGuard as the peer's endpoint
package relay

// Protocol is the name by which both ends know each other (ALPN, RFC 7301).
const Protocol = "spillway-tunnel/1"
