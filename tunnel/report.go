package tunnel

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Report is what is really installed on a node, as read from the kernel.
type Report struct {
	// Kernel says that WireGuard devices are the kernel's.
	Kernel bool `json:"kernel"`
	// Links, Routes and Rules are as an operator would type them.
	Links  []string `json:"links"`
	Routes []string `json:"routes"`
	Rules  []string `json:"rules"`
	// Missing and Extra are what is wanted and not there, and there and not wanted, at the last round.
	Missing []string `json:"missing"`
	Extra   []string `json:"extra"`
	// Peers on this node's WireGuard devices.
	Peers []PeerReport `json:"peers"`
	// Reachable is how many addresses of this node peers may reach, in all.
	Reachable int `json:"reachable"`
	// Refused packets since the start.
	Refused []RefusedReport `json:"refused"`
	// Repairs is how many differences that somebody made were put right.
	Repairs uint64 `json:"repairs"`
	// LastError of the last round; empty: none. LastRoundUnix is when it was, TookMicros how long it took.
	LastError     string `json:"lastError"`
	LastRoundUnix int64  `json:"lastRoundUnix"`
	TookMicros    int64  `json:"tookMicros"`
}

// PeerReport is a peer on a WireGuard device, as the device says.
type PeerReport struct {
	Peer      string    `json:"peer"`
	Slot      int       `json:"slot"`
	PublicKey string    `json:"publicKey"`
	Endpoint  string    `json:"endpoint"`
	Handshake time.Time `json:"handshake"`
	RxBytes   uint64    `json:"rxBytes"`
	TxBytes   uint64    `json:"txBytes"`
}

// RefusedReport counts refused packets: by the filter per peer (reason Filter; peer "" came through a tunnel from no
// range of a peer), and by WireGuard devices (reasons Handshake, Source and Data; the peer is not known).
type RefusedReport struct {
	Peer    string `json:"peer"`
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// cachedStats are device statistics that several readers may want within a moment.
type cachedStats struct {
	at    time.Time
	peers []PeerReport
}

// statsFor is how long statistics of devices are good.
const statsFor = 500 * time.Millisecond

// Report says what is there. It reads WireGuard's and nftables' counters.
func (e *Engine) Report() Report {
	e.mu.Lock()
	status, planned, devices := e.status, e.planned, e.devices
	e.mu.Unlock()
	r := Report{Repairs: status.repairs, LastRoundUnix: status.at.Unix(), TookMicros: status.took.Microseconds(), Peers: e.Peers()}
	if status.err != nil {
		r.LastError = status.err.Error()
	}
	for _, l := range status.have.Links {
		r.Links = append(r.Links, l.String())
	}
	for _, route := range status.have.Routes {
		r.Routes = append(r.Routes, route.String())
	}
	for _, rule := range status.have.Rules {
		r.Rules = append(r.Rules, rule.String())
	}
	for _, c := range Diff(status.have, planned) {
		if c.Add {
			r.Missing = append(r.Missing, c.String())
		} else {
			r.Extra = append(r.Extra, c.Item.String())
		}
	}
	for _, p := range planned.Packets.Peers {
		r.Reachable += len(p.Reachable)
	}
	for _, d := range devices {
		r.Kernel = r.Kernel || d.Kernel()
		refused := d.Refused()
		r.Refused = append(r.Refused, RefusedReport{Reason: "Handshake", Packets: refused.Handshakes},
			RefusedReport{Reason: "Source", Packets: refused.Sources}, RefusedReport{Reason: "Data", Packets: refused.Data})
	}
	r.Refused = append(r.Refused, e.refusedByFilter()...)
	return r
}

// Settled says when the last round was (zero: there was none, as nothing has been Set) and whether the kernel was as wanted after it.
func (e *Engine) Settled() (at time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status.at, e.status.err
}

func (e *Engine) refusedByFilter() []RefusedReport {
	conn, err := openNftables()
	if err != nil {
		return nil
	}
	var out []RefusedReport
	for peer, n := range e.nft.refused(conn) {
		out = append(out, RefusedReport{Peer: peer, Reason: "Filter", Packets: n})
	}
	slices.SortFunc(out, func(a, b RefusedReport) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// PathMTU is the largest packet inside the tunnel that the path to a peer takes in one piece, bytes, as far as the kernel
// knows; 0: it does not, or this node does not hold the slot. Larger packets pass in pieces, slowly, so that probes do
// not show it.
func (e *Engine) PathMTU(peer string, slot int) int {
	e.mu.Lock()
	d := e.devices[DeviceName(slot)]
	e.mu.Unlock()
	if d == nil {
		return 0
	}
	for _, p := range e.Peers() {
		if to, err := netip.ParseAddrPort(p.Endpoint); err == nil && p.Peer == peer && p.Slot == slot {
			mtu, err := d.PathMTU(to)
			if err != nil {
				return 0 // no way there: the probes say it
			}
			return mtu
		}
	}
	return 0
}

// Peers says what the WireGuard devices say of their peers, at most half a second old.
func (e *Engine) Peers() []PeerReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.stats.at) < statsFor {
		return e.stats.peers
	}
	var out []PeerReport
	for _, d := range e.planned.Devices {
		names := map[wgtypes.Key]string{}
		for _, p := range d.Peers {
			names[p.Key] = p.Peer
		}
		have, err := e.wg.Device(d.Link)
		if err != nil {
			continue // the next round says it
		}
		for _, p := range have.Peers {
			if names[p.PublicKey] == "" {
				continue
			}
			report := PeerReport{
				Peer: names[p.PublicKey], Slot: d.Slot, PublicKey: p.PublicKey.String(), Handshake: p.LastHandshakeTime,
				RxBytes: uint64(p.ReceiveBytes), TxBytes: uint64(p.TransmitBytes),
			}
			if p.Endpoint != nil {
				report.Endpoint = p.Endpoint.String()
			}
			out = append(out, report)
		}
	}
	e.stats = cachedStats{time.Now(), out}
	return out
}
