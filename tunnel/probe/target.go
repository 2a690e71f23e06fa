package probe

import (
	"net/netip"
	"time"
)

// Key names a target.
type Key struct {
	Peer string
	// Slot of the gateways. Below 0: a sample of two nodes, -1 for the first.
	Slot int
}

// Target is somebody to find out about.
type Target struct {
	Key
	// Local and Remote are the addresses between which packets go, of the same family, as they are seen here.
	Local, Remote netip.Addr
	// Initiate says that this side asks; exactly one side of a pair must. The other learns what was found. For a sample the
	// other side needs no Target, see [Prober.Answer].
	Initiate bool
	// MaxMTU is the largest packet that the device towards Remote takes, up to which a larger size is searched for; 0:
	// tunnel.BaseMTU. For a sample it is the size of the probes themselves.
	MaxMTU int
}

// State is what is known of a target.
type State struct {
	// Up: packets of size MTU pass in both directions.
	Up bool
	// Ever: it was up since this process knows it.
	Ever bool
	// LargeLost: not up, though small packets pass.
	LargeLost bool
	// Undecided: just begun, Up says nothing yet.
	Undecided bool
	// Since when Up is as it is.
	Since time.Time
	// RTT is the median of the last 15 round trips; 0: none yet.
	RTT time.Duration
	// LossPercent of the last 100 probes.
	LossPercent int
	// MTU is the size of the packets that were proven, with IP header. While not up, that of the last time.
	MTU int
	// PeerMTU is what the device of the other side takes; 0: not known.
	PeerMTU int
}
