package tunnel

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// keepalive holds the way through address translators open that forget a silent flow (RFC 4787: not before 2 minutes,
// and in practice after 30 s).
const keepalive = 25 * time.Second

// configure makes a WireGuard device equal to what is wanted, touching only what differs: a peer that stays keeps its
// session. sent are the endpoints that were set before: a peer that has moved since keeps the address it was seen at.
// It reports whether anything differed.
func configure(client *wgctrl.Client, want Device, sent map[wgtypes.Key]netip.AddrPort) (bool, error) {
	have, err := client.Device(want.Link)
	if err != nil {
		return false, fmt.Errorf("read WireGuard device %s: %w", want.Link, err)
	}
	var c wgtypes.Config
	if have.PrivateKey != clamped(want.Key) {
		c.PrivateKey = &want.Key
	}
	if port := int(want.Port); have.ListenPort != port {
		c.ListenPort = &port
	}
	c.Peers = peerChanges(have.Peers, want.Peers, sent)
	if c.PrivateKey == nil && c.ListenPort == nil && len(c.Peers) == 0 {
		return false, nil
	}
	if err := client.ConfigureDevice(want.Link, c); err != nil {
		return false, fmt.Errorf("configure WireGuard device %s: %w", want.Link, err)
	}
	for _, p := range want.Peers {
		sent[p.Key] = p.Endpoint
	}
	return true, nil
}

// clamped is how devices keep a private key (RFC 7748, section 5).
func clamped(key wgtypes.Key) wgtypes.Key {
	key[0] &= 248
	key[31] = key[31]&127 | 64
	return key
}

// peerChanges lists what is to be told to the device. Pure. Ranges move before their former peer goes.
func peerChanges(have []wgtypes.Peer, want []DevicePeer, sent map[wgtypes.Key]netip.AddrPort) []wgtypes.PeerConfig {
	there := map[wgtypes.Key]wgtypes.Peer{}
	for _, p := range have {
		there[p.PublicKey] = p
	}
	var out []wgtypes.PeerConfig
	wanted := map[wgtypes.Key]bool{}
	every := keepalive
	for _, p := range want {
		wanted[p.Key] = true
		old, ok := there[p.Key]
		if ok && old.Endpoint == nil && p.Endpoint.IsValid() {
			// It has tried to begin without knowing where to, and would try again only after five seconds.
			out = append(out, wgtypes.PeerConfig{PublicKey: p.Key, Remove: true})
			ok = false
		}
		before, known := sent[p.Key]
		c := wgtypes.PeerConfig{PublicKey: p.Key, UpdateOnly: ok}
		if !ok || !slices.Equal(allowedOf(old), p.Allowed) {
			c.ReplaceAllowedIPs = true
			for _, r := range p.Allowed {
				c.AllowedIPs = append(c.AllowedIPs, *netOf(r))
			}
		}
		if p.Endpoint.IsValid() && (!ok || !known || before != p.Endpoint) {
			c.Endpoint = net.UDPAddrFromAddrPort(p.Endpoint)
		}
		if !ok || old.PersistentKeepaliveInterval != keepalive {
			c.PersistentKeepaliveInterval = &every
		}
		if c.ReplaceAllowedIPs || c.Endpoint != nil || c.PersistentKeepaliveInterval != nil {
			out = append(out, c)
		}
	}
	for _, p := range have {
		if !wanted[p.PublicKey] {
			out = append(out, wgtypes.PeerConfig{PublicKey: p.PublicKey, Remove: true})
		}
	}
	return out
}

func allowedOf(p wgtypes.Peer) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range p.AllowedIPs {
		if r, ok := prefixOf(&n); ok {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// renew takes a peer off its device and puts it back: both begin a new session at once, which a peer whose session
// belongs to a process that is gone does not do by itself for many seconds.
func renew(client *wgctrl.Client, d Device, peer string) error {
	for _, p := range d.Peers {
		if p.Peer != peer {
			continue
		}
		c := peerChanges(nil, []DevicePeer{p}, nil)
		c = append([]wgtypes.PeerConfig{{PublicKey: p.Key, Remove: true}}, c...)
		if err := client.ConfigureDevice(d.Link, wgtypes.Config{Peers: c}); err != nil {
			return fmt.Errorf("renew peer %s on %s: %w", peer, d.Link, err)
		}
	}
	return nil
}
