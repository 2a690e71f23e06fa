package agent

import (
	"github.com/spillway-dev/spillway/tunnel"
)

// Report is what the agent of one node says of itself under /report.
type Report struct {
	Node    string `json:"node"`
	Cluster string `json:"cluster"`
	// Kernel says that WireGuard is the kernel's and not in this process.
	Kernel  bool  `json:"kernel"`
	Gateway bool  `json:"gateway"`
	Slots   []int `json:"slots"` // held by this node
	// Holders of all slots, by number; an empty name: nobody.
	Holders []string `json:"holders"`
	// MTU is the largest packet inside the tunnel that this node's network allows, bytes.
	MTU     int           `json:"mtu"`
	Members []string      `json:"members"` // nodes whose agents answer, by name
	Tunnel  tunnel.Report `json:"tunnel"`  // what is really installed
	Paths   []PathReport  `json:"paths"`   // of the slots this node holds
	Samples []PathReport  `json:"samples"` // from this node to a node of each peer
	// PublicKeys of the slots, base64, by number; as far as this node knows the private ones.
	PublicKeys []string `json:"publicKeys"`
	// Problems in words, each with what to do.
	Problems []string `json:"problems"`
	// Offline says that the API server has not been read since the start and the last known view is used.
	Offline bool `json:"offline"`
}

// PathReport is one probed path.
type PathReport struct {
	Peer   string `json:"peer"`
	Slot   int    `json:"slot"` // -1 for a sample
	Remote string `json:"remote"`
	Up     bool   `json:"up"`
	Ever   bool   `json:"ever"` // was up at some time
	// LargeLost: small packets pass and large ones do not.
	LargeLost      bool   `json:"largeLost"`
	Transport      string `json:"transport,omitempty"` // UDP or TLS
	Endpoint       string `json:"endpoint,omitempty"`
	RTTMicros      int64  `json:"rttMicros"`
	LossPercent    int    `json:"lossPercent"`
	MTU            int    `json:"mtu"`
	SinceUnix      int64  `json:"sinceUnix"`
	RxBytes        uint64 `json:"rxBytes"`
	TxBytes        uint64 `json:"txBytes"`
	HandshakeUnix  int64  `json:"handshakeUnix"`
	PeerPublicKey  string `json:"peerPublicKey,omitempty"`
	RemoteAnnounce bool   `json:"remoteAnnounces"` // the peer knows an endpoint of ours
}
