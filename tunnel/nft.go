package tunnel

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is our nftables table, of family inet.
const tableName = "spillway"

// perMessage is how many elements go into one netlink message, whose attributes hold 64 KiB.
const perMessage = 500

// builder writes a whole table into one transaction.
type builder struct {
	conn  *nftables.Conn
	table *nftables.Table
	p     Packets
	err   error
}

func ourTable() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// replaceTable queues the replacement of our table; the caller flushes. Packets without peers leave no table.
func replaceTable(conn *nftables.Conn, p Packets) error {
	b := &builder{conn: conn, table: ourTable(), p: p}
	conn.AddTable(b.table) // so that there is one to delete
	conn.DelTable(b.table)
	if len(p.Peers) == 0 {
		return nil
	}
	b.table = conn.AddTable(ourTable())
	b.sets()
	b.peerChains()
	b.filter()
	b.translate()
	b.clampSegments()
	b.flows()
	return b.err
}

func (b *builder) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority int32) *nftables.Chain {
	c := &nftables.Chain{Name: name, Table: b.table}
	if hook != nil {
		c.Type, c.Hooknum, c.Priority = kind, hook, nftables.ChainPriorityRef(nftables.ChainPriority(priority))
	}
	return b.conn.AddChain(c)
}

func (b *builder) rule(c *nftables.Chain, parts ...[]expr.Any) {
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: slices.Concat(parts...)})
}

func (b *builder) set(s *nftables.Set, elements []nftables.SetElement) {
	s.Table = b.table
	first := elements[:min(len(elements), perMessage)]
	if err := b.conn.AddSet(s, first); err != nil && b.err == nil {
		b.err = fmt.Errorf("make set %s: %w", s.Name, err)
	}
	for part := range slices.Chunk(elements[len(first):], perMessage) {
		if err := b.conn.SetAddElements(s, part); err != nil && b.err == nil {
			b.err = fmt.Errorf("fill set %s: %w", s.Name, err)
		}
	}
}

// sets are what several chains look things up in.
func (b *builder) sets() {
	for _, f := range families() {
		var remote []netip.Prefix
		var api []nftables.SetElement
		for _, p := range b.p.Peers {
			remote = append(remote, p.Remote...)
			if p.API.IsValid() && f.has(p.API) {
				api = append(api, nftables.SetElement{Key: p.API.AsSlice()})
			}
		}
		b.set(&nftables.Set{Name: "remote" + f.name, KeyType: f.keyType(), Interval: true}, f.intervals(remote, nil))
		b.set(&nftables.Set{Name: "api" + f.name, KeyType: f.keyType()}, unique(api))
		var endpoints []nftables.SetElement
		for _, e := range b.p.API {
			if f.has(e.Addr()) {
				endpoints = append(endpoints, nftables.SetElement{Key: e.Addr().AsSlice()})
			}
		}
		b.set(&nftables.Set{Name: "endpoints" + f.name, KeyType: f.keyType()}, unique(endpoints))
		b.set(&nftables.Set{Name: "own" + f.name, KeyType: f.keyType(), Interval: true}, f.intervals(b.p.Own, nil))
		b.set(&nftables.Set{Name: "self" + f.name, KeyType: f.keyType()}, f.reach(b.p.Self))
		pair := nftables.MustConcatSetType(f.keyType(), f.keyType())
		out, in := f.translations(b.p.Peers)
		b.set(&nftables.Set{Name: "out" + f.name, IsMap: true, Interval: true, Concatenation: true, KeyType: pair, DataType: pair}, out)
		b.set(&nftables.Set{Name: "in" + f.name, IsMap: true, Interval: true, Concatenation: true, KeyType: pair, DataType: pair}, in)
	}
}

func unique(elements []nftables.SetElement) []nftables.SetElement {
	slices.SortFunc(elements, func(a, b nftables.SetElement) int { return slices.Compare(a.Key, b.Key) })
	return slices.CompactFunc(elements, func(a, b nftables.SetElement) bool { return slices.Equal(a.Key, b.Key) })
}

func (f family) keyType() nftables.SetDatatype {
	if f.size == 4 {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

// intervals are the elements of ranges, each with verdict if that is given. A range inside another is left out: the
// kernel refuses overlaps.
func (f family) intervals(ranges []netip.Prefix, verdict func(netip.Prefix) *expr.Verdict) []nftables.SetElement {
	ranges = slices.DeleteFunc(slices.Clone(ranges), func(p netip.Prefix) bool { return !f.has(p.Addr()) })
	slices.SortFunc(ranges, netip.Prefix.Compare)
	var out []nftables.SetElement
	var last netip.Addr // of the range before
	for _, p := range ranges {
		if last.IsValid() && p.Addr().Compare(last) <= 0 {
			continue
		}
		last = lastAddr(p)
		e := nftables.SetElement{Key: p.Masked().Addr().AsSlice()}
		if verdict != nil {
			e.VerdictData = verdict(p)
		}
		out = append(out, e)
		if next := last.Next(); next.IsValid() {
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// translations are the elements of the maps: (their range, our real one) → as they see it, and (their range, as they
// see ours) → real.
func (f family) translations(peers []PacketPeer) (out, in []nftables.SetElement) {
	for _, p := range peers {
		for _, r := range p.Remote {
			for _, m := range p.Translate {
				if !f.has(r.Addr()) || !f.has(m.Real.Addr()) {
					continue
				}
				out = append(out, pair(r, m.Real, m.As))
				in = append(in, pair(r, m.As, m.Real))
			}
		}
	}
	return out, in
}

func pair(a, b, value netip.Prefix) nftables.SetElement {
	return nftables.SetElement{
		Key:    slices.Concat(a.Masked().Addr().AsSlice(), b.Masked().Addr().AsSlice()),
		KeyEnd: slices.Concat(lastAddr(a).AsSlice(), lastAddr(b).AsSlice()),
		Val:    slices.Concat(value.Masked().Addr().AsSlice(), lastAddr(value).AsSlice()),
	}
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func peerChain(i int) string          { return fmt.Sprintf("peer-%d", i) }
func reachSet(i int, f family) string { return fmt.Sprintf("reach-%d-%s", i, f.name) }
func refusedCounter(i int) string     { return fmt.Sprintf("refused-%d", i) }
func strangers() string               { return "refused-strangers" }
func (f family) reach(a []netip.Addr) []nftables.SetElement {
	var out []nftables.SetElement
	for _, addr := range a {
		if f.has(addr) {
			out = append(out, nftables.SetElement{Key: addr.AsSlice()})
		}
	}
	return unique(out)
}

func (b *builder) countAndDrop(c *nftables.Chain, counter string, when ...[]expr.Any) {
	b.rule(c, append(when, []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counter}, drop()})...)
}

// peerChains judge packets from one peer each; what none accepts is dropped and counted.
func (b *builder) peerChains() {
	b.conn.AddObj(&nftables.CounterObj{Table: b.table, Name: strangers()})
	anyPeer := b.anyPeer()
	for i, p := range b.p.Peers {
		c := b.chain(peerChain(i), "", nil, 0)
		b.conn.AddObj(&nftables.CounterObj{Table: b.table, Name: refusedCounter(i)})
		b.rule(c, []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: anyPeer.Name}})
		for _, f := range families() {
			b.set(&nftables.Set{Name: reachSet(i, f), KeyType: f.keyType()}, f.reach(p.Reachable))
			b.rule(c, f.is(), []expr.Any{f.destination(1), in(reachSet(i, f)), accept()})
		}
		b.countAndDrop(c, refusedCounter(i))
	}
}

// anyPeer accepts what every peer may.
func (b *builder) anyPeer() *nftables.Chain {
	c := b.chain("any-peer", "", nil, 0)
	b.rule(c, answers(), []expr.Any{accept()})
	for _, f := range families() {
		b.rule(c, f.is(), b.forAPI(f), []expr.Any{f.destination(1), inSet("endpoints", f), accept()})
		b.rule(c, f.is(), protocol(unix.IPPROTO_UDP), port(ProbePort), []expr.Any{f.destination(1), inSet("self", f), accept()})
	}
	if b.p.Underlay != "" {
		b.otherNodes(c)
	}
	return c
}

// otherNodes accepts what is for pods of other nodes: the node of the pod judges. Where the ranges of nodes are not
// known, or not those that its pods have, packets take the way of the cluster's own network.
func (b *builder) otherNodes(c *nftables.Chain) {
	for _, device := range b.p.Devices {
		b.rule(c, fromLink(device), toLink(b.p.Underlay), []expr.Any{accept()})
	}
	b.set(&nftables.Set{Name: "network-kinds", KeyType: nftables.TypeIFName}, names(networkKinds()))
	b.set(&nftables.Set{Name: "network-links", KeyType: nftables.TypeIFName}, names([]string{b.p.Uplink, "cilium_host"}))
	for _, f := range families() {
		own := []expr.Any{f.destination(1), inSet("own", f)}
		for _, from := range append([]string{b.p.Underlay}, b.p.Devices...) {
			b.rule(c, fromLink(from), f.is(), own, []expr.Any{&expr.Meta{Key: metaOutKind, Register: 1}, in("network-kinds"), accept()})
			b.rule(c, fromLink(from), f.is(), own, []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, in("network-links"), accept()})
		}
	}
}

// networkKinds are the kinds of links by which networks of clusters reach other nodes, never a pod.
func networkKinds() []string {
	return []string{"vxlan", "geneve", "ipip", "sit", "ip6tnl", "gre", "wireguard"}
}

func names(links []string) []nftables.SetElement {
	var out []nftables.SetElement
	for _, name := range links {
		out = append(out, nftables.SetElement{Key: linkName(name)})
	}
	return unique(out)
}

// filter sends packets from peers to their chains.
func (b *builder) filter() {
	for _, f := range families() {
		var ranges []netip.Prefix
		owner := map[netip.Prefix]int{}
		for i, p := range b.p.Peers {
			for _, r := range append(slices.Clone(p.Remote), p.SlotRange) {
				ranges = append(ranges, r)
				owner[r] = i
			}
		}
		elements := f.intervals(ranges, func(p netip.Prefix) *expr.Verdict {
			return &expr.Verdict{Kind: expr.VerdictJump, Chain: peerChain(owner[p])}
		})
		b.set(&nftables.Set{Name: "peers" + f.name, IsMap: true, Interval: true, KeyType: f.keyType(), DataType: nftables.TypeVerdict}, elements)
	}
	const before = -10 // the filters of others
	for _, hook := range []struct {
		name string
		hook *nftables.ChainHook
	}{{"forward", nftables.ChainHookForward}, {"input", nftables.ChainHookInput}} {
		c := b.chain(hook.name, nftables.ChainTypeFilter, hook.hook, before)
		for _, f := range families() {
			b.rule(c, f.is(), []expr.Any{f.source(1), &expr.Lookup{SourceRegister: 1, SetName: "peers" + f.name, IsDestRegSet: true}})
		}
		for _, device := range b.p.Devices {
			b.rule(c, fromLink(device), answers(), []expr.Any{accept()})
			b.countAndDrop(c, strangers(), fromLink(device))
		}
	}
}

// translate changes addresses, each node those of its own pods, before the cluster's own translations.
func (b *builder) translate() {
	in := b.chain("translate-in", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -105)
	out := b.chain("translate-out", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 95)
	for _, f := range families() {
		for _, device := range b.p.Devices {
			b.apiRules(in, f, device)
		}
		b.rule(in, f.is(), []expr.Any{
			f.source(1), f.destination(f.second()),
			&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: "in" + f.name}, f.prefixNAT(expr.NATTypeDestNAT),
		})
		b.rule(out, f.is(), b.forAPI(f), []expr.Any{f.source(1), inSet("remote", f), f.destination(1), inSet("endpoints", f), &expr.Masq{}})
		b.rule(out, f.is(), []expr.Any{
			f.destination(1), f.source(f.second()),
			&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: "out" + f.name}, f.prefixNAT(expr.NATTypeSourceNAT),
		})
		// Translated to itself: a later rule of the cluster's own network would put the node's address there.
		keep := []expr.Any{f.source(1), &expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f.proto), RegAddrMin: 1}}
		b.rule(out, f.is(), []expr.Any{f.source(1), inSet("remote", f)}, keep)
		b.rule(out, f.is(), []expr.Any{f.destination(1), inSet("remote", f)}, keep)
	}
}

// forAPI narrows a rule to connections that peers made to the address under which they see our API server. That of a node
// on which it listens is another: whatever else listens there is not theirs.
func (b *builder) forAPI(f family) []expr.Any { return began("api"+f.name, b.p.APIPort) }

func inSet(name string, f family) expr.Any { return in(name + f.name) }

// apiRules lead connections to our API server to one of its endpoints.
func (b *builder) apiRules(c *nftables.Chain, f family, device string) {
	var endpoints []netip.AddrPort
	for _, e := range b.p.API {
		if f.has(e.Addr()) {
			endpoints = append(endpoints, e)
		}
	}
	for i, e := range endpoints {
		var chance []expr.Any
		if rest := len(endpoints) - i; rest > 1 {
			chance = []expr.Any{&expr.Numgen{Register: 1, Modulus: uint32(rest), Type: unix.NFT_NG_RANDOM}, equal(make([]byte, 4))}
		}
		b.rule(c, fromLink(device), f.is(), protocol(unix.IPPROTO_TCP), port(b.p.APIPort),
			[]expr.Any{f.destination(1), inSet("api", f)}, chance, []expr.Any{
				&expr.Immediate{Register: 1, Data: e.Addr().AsSlice()},
				&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(e.Port())},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: 1, RegProtoMin: 2},
			})
	}
}

func (b *builder) clampSegments() {
	c := b.chain("segments", nftables.ChainTypeFilter, nftables.ChainHookForward, -150)
	for _, f := range families() {
		b.rule(c, f.is(), protocol(unix.IPPROTO_TCP), []expr.Any{f.destination(1), inSet("remote", f)}, clamp())
		b.rule(c, f.is(), protocol(unix.IPPROTO_TCP), []expr.Any{f.source(1), inSet("remote", f)}, clamp())
	}
}

// flows marks packets to peers with the slot of their flow, where there are several.
func (b *builder) flows() {
	most := 0
	for _, p := range b.p.Peers {
		most = max(most, p.Slots)
	}
	if most < 2 {
		return
	}
	var slots []nftables.SetElement
	for k := range most {
		c := b.chain(fmt.Sprintf("slot-%d", k), "", nil, 0)
		b.rule(c, setMark(k))
		slots = append(slots, nftables.SetElement{
			Key: binaryutil.NativeEndian.PutUint32(uint32(k)), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: c.Name},
		})
	}
	b.set(&nftables.Set{Name: "slots", IsMap: true, KeyType: nftables.TypeMark, DataType: nftables.TypeVerdict}, slots)
	flows := b.chain("flows", "", nil, 0)
	choose := []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: "slots", IsDestRegSet: true}}
	for _, f := range families() {
		for n := 2; n <= most; n++ {
			for _, first := range []bool{true, false} {
				name := fmt.Sprintf("flows-%d-%t-%s", n, first, f.name)
				var ranges []netip.Prefix
				for _, p := range b.p.Peers {
					if p.Slots == n && p.First == first {
						ranges = append(ranges, p.Remote...)
					}
				}
				elements := f.intervals(ranges, nil)
				if len(elements) == 0 {
					continue
				}
				b.set(&nftables.Set{Name: name, KeyType: f.keyType(), Interval: true}, elements)
				for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
					b.rule(flows, f.is(), protocol(proto), []expr.Any{f.destination(1), in(name)}, f.flowHash(true, first, n), choose)
				}
				b.rule(flows, f.is(), []expr.Any{f.destination(1), in(name)}, f.flowHash(false, first, n), choose)
			}
		}
	}
	const after = -90 // the cluster's Services have become endpoints
	jump := []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: flows.Name}}
	b.rule(b.chain("flows-forwarded", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, after), jump)
	b.rule(b.chain("flows-own", nftables.ChainTypeRoute, nftables.ChainHookOutput, after), jump)
}
