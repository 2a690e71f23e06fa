package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// kind says what a message is for.
type kind uint8

const (
	question kind = 1 // by the initiator; wants an answer of the same size
	answer   kind = 2
	hello    kind = 3 // by a responder that hears nothing: it makes the tunnel below find its way
)

// flags are the sender's view.
type flags uint8

const (
	flagUp flags = 1 << iota
	flagEver
	flagLargeLost
	flagUndecided // the initiator has just begun: its view says nothing yet
)

// message is one packet. The sender's padding fills it up to size.
type message struct {
	kind  kind
	flags flags
	loss  uint8  // percent
	seq   uint32 // of the question
	size  int    // of the whole packet, with the headers of IP and UDP
	max   int    // largest packet that the sender's device takes; 0: not said
	mtu   int    // largest packet proven so far
	wait  time.Duration
	rtt   time.Duration
	// nonce names the sender's session, echo the receiver's as the sender knows it (0: not yet). Who cannot read the
	// packets of the other cannot make one that is believed.
	nonce, echo uint64
}

const (
	magic       = 0x53775062 // "SwPb"
	version     = 1
	headerSize  = 40
	overheadIP4 = 20 + 8
	overheadIP6 = 40 + 8
)

var (
	errShort   = errors.New("shorter than a probe")
	errForeign = errors.New("no probe")
	errVersion = errors.New("probe of an unknown version")
	errField   = errors.New("probe with an impossible field")
)

// put writes m into the first headerSize bytes of b:
//
//	 0 magic (4) version (1) kind (1) flags (1) loss (1)
//	 8 seq (4) size (2) max (2)
//	16 mtu (2) wait, ms (2) rtt, µs (4)
//	24 nonce (8) echo (8)
func (m message) put(b []byte) {
	binary.BigEndian.PutUint32(b, magic)
	b[4], b[5], b[6], b[7] = version, byte(m.kind), byte(m.flags), m.loss
	binary.BigEndian.PutUint32(b[8:], m.seq)
	binary.BigEndian.PutUint16(b[12:], uint16(m.size))
	binary.BigEndian.PutUint16(b[14:], uint16(min(m.max, 0xffff)))
	binary.BigEndian.PutUint16(b[16:], uint16(min(m.mtu, 0xffff)))
	binary.BigEndian.PutUint16(b[18:], uint16(min(m.wait.Milliseconds(), 0xffff)))
	binary.BigEndian.PutUint32(b[20:], uint32(min(m.rtt.Microseconds(), 0xffffffff)))
	binary.BigEndian.PutUint64(b[24:], m.nonce)
	binary.BigEndian.PutUint64(b[32:], m.echo)
}

// parse reads the payload of a UDP packet whose headers have overhead bytes. It takes nothing that put does not write.
func parse(b []byte, overhead int) (message, error) {
	if len(b) < headerSize {
		return message{}, errShort
	}
	if binary.BigEndian.Uint32(b) != magic {
		return message{}, errForeign
	}
	if b[4] != version {
		return message{}, fmt.Errorf("%w: %d", errVersion, b[4])
	}
	m := message{
		kind:  kind(b[5]),
		flags: flags(b[6]),
		loss:  b[7],
		seq:   binary.BigEndian.Uint32(b[8:]),
		size:  int(binary.BigEndian.Uint16(b[12:])),
		max:   int(binary.BigEndian.Uint16(b[14:])),
		mtu:   int(binary.BigEndian.Uint16(b[16:])),
		wait:  time.Duration(binary.BigEndian.Uint16(b[18:])) * time.Millisecond,
		rtt:   time.Duration(binary.BigEndian.Uint32(b[20:])) * time.Microsecond,
		nonce: binary.BigEndian.Uint64(b[24:]),
		echo:  binary.BigEndian.Uint64(b[32:]),
	}
	if m.kind < question || m.kind > hello || m.loss > 100 || m.nonce == 0 && m.kind != answer || m.size != len(b)+overhead {
		return message{}, errField
	}
	return m, nil
}

// answerTo is the answer to q by somebody who has nothing to say of himself. It is as large as the question, never larger.
func answerTo(q message) message {
	return message{kind: answer, seq: q.seq, size: q.size, echo: q.nonce}
}
