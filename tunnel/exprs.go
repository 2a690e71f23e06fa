package tunnel

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A rule is a list of expressions. Registers 1 to 4 hold 16 bytes each; register word0+i is the i-th word of register 1.
const word0 = 8

// metaOutKind is NFT_META_OIFKIND of linux/netfilter/nf_tables.h: the kind of the link by which a packet leaves.
const metaOutKind expr.MetaKey = 27

// family is how addresses of one family lie in a packet.
type family struct {
	name         string
	proto        byte // NFPROTO
	size         uint32
	saddr, daddr uint32
}

func families() [2]family {
	return [2]family{
		{"4", unix.NFPROTO_IPV4, 4, 12, 16},
		{"6", unix.NFPROTO_IPV6, 16, 8, 24},
	}
}

func (f family) has(a netip.Addr) bool { return a.Is4() == (f.size == 4) }

// is narrows a rule to packets of the family.
func (f family) is() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{f.proto})}
}

func (f family) source(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.size}
}

func (f family) destination(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: f.size}
}

// second is the register behind an address in register 1, for concatenations.
func (f family) second() uint32 { return word0 + f.size/4 }

func equal(value []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}
}

func in(set string) expr.Any { return &expr.Lookup{SourceRegister: 1, SetName: set} }

func fromLink(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(linkName(name))}
}

func toLink(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(linkName(name))}
}

func linkName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{number})}
}

// port is the destination port of TCP or UDP.
func port(number uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(binaryutil.BigEndian.PutUint16(number)),
	}
}

// connection narrows a rule to packets whose connection has one of the bits, in its state or its status.
func connection(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// answers are packets of connections that this side began.
func answers() []expr.Any {
	return connection(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// began narrows a rule to packets of TCP connections whose first packet was for an address of the set and the port,
// whatever it was translated to.
func began(set string, port uint16) []expr.Any {
	return append(protocol(unix.IPPROTO_TCP),
		&expr.Ct{Key: expr.CtKeyPROTODST, Register: 1}, equal(binaryutil.BigEndian.PutUint16(port)),
		&expr.Ct{Key: expr.CtKeyDST, Register: 1}, in(set))
}

func accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }
func drop() expr.Any   { return &expr.Verdict{Kind: expr.VerdictDrop} }

// prefixNAT translates by the range in register 1: least and largest address behind each other.
func (f family) prefixNAT(kind expr.NATType) expr.Any {
	return &expr.NAT{Type: kind, Family: uint32(f.proto), RegAddrMin: 1, RegAddrMax: f.second(), Prefix: true}
}

// tcpSyn is the flag of segments that begin a connection (RFC 9293).
const tcpSyn = 0x02

// tcpFlag narrows a rule to TCP segments with the flag, or without.
func tcpFlag(bit byte, set bool) []expr.Any {
	op := expr.CmpOpEq
	if set {
		op = expr.CmpOpNeq
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{bit}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{0}},
	}
}

// clamp lowers the segment size of a TCP connection that begins to what the routes of both directions carry.
func clamp() []expr.Any {
	return append(tcpFlag(tcpSyn, true),
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: 1, Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt})
}

// flowHash puts the slot of a flow into register 1: a hash over the low bits of both ends, which aliases leave as they
// are, in an order on which both clusters agree. Both directions of a flow give the same in both clusters.
func (f family) flowHash(ports, first bool, slots int) []expr.Any {
	low, mask := f.size-4, []byte{0, 0, 0, 0xff} // of a /24, the smallest range of IPv4 that gets an alias
	if f.size == 16 {
		mask = []byte{0, 0, 0xff, 0xff}
	}
	ours, theirs := uint32(word0), uint32(word0+1)
	if !first {
		ours, theirs = theirs, ours
	}
	word := func(register, offset uint32) []expr.Any {
		return []expr.Any{
			&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset + low, Len: 4},
			&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		}
	}
	out := append(word(ours, f.saddr), word(theirs, f.daddr)...)
	length := uint32(8)
	if ports {
		out = append(out,
			&expr.Payload{DestRegister: ours + 2, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
			&expr.Payload{DestRegister: theirs + 2, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
		length = 16
	}
	return append(out, &expr.Hash{
		SourceRegister: word0, DestRegister: word0, Length: length, Modulus: uint32(slots), Seed: flowSeed, Type: expr.HashTypeJenkins,
	})
}

// flowSeed is alike in all clusters, for ever: "spil".
const flowSeed = 0x7370696c

// setMark writes the slot into our bits of the packet's mark and leaves the others.
func setMark(slot int) []expr.Any {
	native := binaryutil.NativeEndian.PutUint32
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: native(^uint32(markMask)), Xor: native(uint32(slot+1) << markShift),
		},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}
