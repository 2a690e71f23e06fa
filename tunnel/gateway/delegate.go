package gateway

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The pace of the pool, "t200": of three members, the others know of one that was killed after 0.8–1.2 s.
const (
	probeInterval  = 200 * time.Millisecond
	probeTimeout   = 100 * time.Millisecond
	gossipInterval = 50 * time.Millisecond
	packetSize     = 1200 // passes wherever IPv6 does
)

// settings are those of memberlist.
func (p *Pool) settings() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = p.config.Node
	c.BindAddr, c.AdvertiseAddr = p.config.Addr.String(), p.config.Addr.String()
	c.BindPort, c.AdvertisePort = int(p.config.Port), int(p.config.Port)
	c.ProbeInterval, c.ProbeTimeout, c.GossipInterval = probeInterval, probeTimeout, gossipInterval
	c.SuspicionMult, c.SuspicionMaxTimeoutMult, c.AwarenessMaxMultiplier = 3, 1, 2
	c.TCPTimeout = 2 * time.Second
	c.PushPullInterval = 15 * time.Second
	c.UDPBufferSize = packetSize
	c.EnableCompression = false
	c.SecretKey = p.config.Key
	c.DeadNodeReclaimTime = time.Nanosecond // a name that is dead may come back elsewhere
	c.Transport = p.config.transport
	c.LogOutput = logWriter{p.log.Named("memberlist"), p.seldom}
	d := delegate{p}
	c.Delegate, c.Events, c.Conflict = d, d, d
	return c
}

// delegate takes what memberlist tells. It is called under memberlist's lock.
type delegate struct{ pool *Pool }

// NodeMeta is memberlist's.
func (d delegate) NodeMeta(int) []byte {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	return d.pool.table.announce().encode()
}

// NotifyMsg is memberlist's.
func (d delegate) NotifyMsg(b []byte) {
	n, err := decodeNote(b)
	if err != nil {
		d.pool.log.Debug("note in gateway pool", zap.Error(err))
		return
	}
	switch n.kind {
	case noteClaims:
		d.hear(n.from, n.announcement)
	case noteAsk:
		select {
		case d.pool.asks <- n:
		default: // one of many members that are asked, many times
		}
	case noteAlive:
		d.pool.change(func(t *table, now time.Time) { t.vouched(n.about, now) })
	}
}

// GetBroadcasts is memberlist's.
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is memberlist's: what is known of all slots, so that newcomers continue its epochs.
func (d delegate) LocalState(bool) []byte {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	return encodeHolders(d.pool.table.last[:])
}

// MergeRemoteState is memberlist's.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	holders, err := decodeHolders(b)
	if err != nil {
		d.pool.log.Debug("state of gateway pool", zap.Error(err))
		return
	}
	d.pool.change(func(t *table, now time.Time) {
		for slot, h := range holders {
			t.observe(slot, h, now)
		}
	})
}

// NotifyJoin is memberlist's.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	if n.Name == d.pool.config.Node {
		return
	}
	addr, _ := netip.AddrFromSlice(n.Addr)
	d.pool.change(func(t *table, now time.Time) {
		t.join(n.Name, member{addr: addr.Unmap(), port: n.Port, since: now})
	})
	d.hear(n.Name, n.Meta)
}

// NotifyUpdate is memberlist's.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.hear(n.Name, n.Meta) }

// NotifyLeave is memberlist's.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.pool.change(func(t *table, _ time.Time) { t.leave(n.Name) })
}

// NotifyConflict is memberlist's.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.pool.seldom.Warn("two nodes of one name in gateway pool; the second is not let in while the first lives",
		zap.String("node", existing.Name), zap.String("address", existing.Address()), zap.String("other", other.Address()))
}

func (d delegate) hear(name string, meta []byte) {
	if name == d.pool.config.Node {
		return
	}
	a, err := decodeAnnouncement(meta)
	if err != nil {
		d.pool.log.Debug("announcement in gateway pool", zap.String("node", name), zap.Error(err))
		return
	}
	d.pool.change(func(t *table, now time.Time) { t.hear(name, a, now) })
}

// logWriter takes memberlist's lines. What it calls an error is its everyday business: a member that is gone.
type logWriter struct{ log, seldom *zap.Logger }

// Write is io.Writer's.
func (w logWriter) Write(line []byte) (int, error) {
	text := bytes.TrimSpace(line)
	if start := bytes.IndexByte(text, '['); start >= 0 { // after the time
		text = text[start:]
	}
	if bytes.HasPrefix(text, []byte("[ERR]")) && bytes.Contains(text, []byte("ecrypt")) {
		w.seldom.Warn("message with another key in gateway pool", zap.ByteString("line", text))
	} else if entry := w.log.Check(zapcore.DebugLevel, "memberlist says"); entry != nil {
		entry.Write(zap.ByteString("line", text))
	}
	return len(line), nil
}
